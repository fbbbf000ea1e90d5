#include "server/classify_request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"

namespace dla::server {
namespace {

constexpr int kDefaultTopK = 5;

void SetDuration(Duration from, google::protobuf::Duration& to) {
  const int64_t nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(from).count();
  to.set_seconds(nanos / 1'000'000'000);
  to.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

}  // namespace

absl::StatusOr<ClassifyOptions> CheckOptions(const ServedModel& model, uint32_t top_k,
                                             bool include_embedding, bool normalize_embedding) {
  const int classes = model.info().num_classes;
  if (top_k > static_cast<uint32_t>(classes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k is ", top_k, ", but model \"", model.name(), "\" has ", classes,
                     " classes; ask for 1 to ", classes, ", or 0 for the default"));
  }
  return ClassifyOptions{
      .top_k = top_k == 0 ? std::min(kDefaultTopK, classes) : static_cast<int>(top_k),
      .include_embedding = include_embedding,
      .normalize_embedding = normalize_embedding};
}

absl::StatusOr<Priority> CheckPriority(v1::Priority priority) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
    case v1::PRIORITY_INTERACTIVE:
      return Priority::kInteractive;
    case v1::PRIORITY_BULK:
      return Priority::kBulk;
    default:
      return absl::InvalidArgumentError(absl::StrCat("priority is ", static_cast<int>(priority),
                                                     "; there are 1, interactive, and 2, bulk"));
  }
}

TimePoint DeadlineOf(const grpc::ServerContextBase& context, Clock& clock) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  const auto left = deadline - std::chrono::system_clock::now();
  // gRPC writes "no deadline" as the far future too; adding that to the clock would overflow.
  if (left > std::chrono::hours(24 * 365)) return TimePoint::max();
  return clock.Now() + std::chrono::duration_cast<Duration>(left);
}

void FillResponse(const ServedModel& model, Answer answer, v1::ClassifyResponse& response) {
  response.set_model(model.name());
  response.set_model_version(model.version());
  const std::vector<Label>& labels = model.info().labels;
  for (const ClassProbability& each : answer.classes) {
    v1::Class* message = response.add_classes();
    message->set_index(each.index);
    message->set_probability(each.probability);
    if (labels.empty()) continue;
    message->set_label(labels[each.index].name);
    message->set_id(labels[each.index].id);
  }
  response.mutable_embedding()->Assign(answer.embedding.begin(), answer.embedding.end());
  v1::Timing& timing = *response.mutable_timing();
  SetDuration(answer.timing.decode, *timing.mutable_decode());
  SetDuration(answer.timing.queue, *timing.mutable_queue());
  SetDuration(answer.timing.inference, *timing.mutable_inference());
  timing.set_batch_size(answer.timing.batch_size);
}

void FillResult(const ServedModel& model, absl::StatusOr<Answer> answer,
                v1::ClassifyResult& result) {
  if (answer.ok()) {
    FillResponse(model, *std::move(answer), *result.mutable_response());
  } else {
    *result.mutable_error() = ToRpcStatus(answer.status());
  }
}

void FillModel(const ServedModel& model, bool with_labels, v1::Model& message) {
  const ModelInfo& info = model.info();
  message.set_name(model.name());
  message.set_version(model.version());
  message.set_architecture(info.architecture);
  message.set_num_classes(info.num_classes);
  message.set_embedding_size(info.embedding_size);
  message.set_parameters(info.parameters);
  message.set_input_height(info.input.height);
  message.set_input_width(info.input.width);
  message.set_precision(info.precision);
  message.set_device(info.device);
  message.set_max_batch_size(model.options().queue.max_batch);
  message.set_replicas(model.options().replicas);
  if (!with_labels) return;
  for (const Label& label : info.labels) message.add_labels(label.name);
}

}  // namespace dla::server
