#include "server/classify_stream.h"

#include <utility>

#include "server/classify_request.h"
#include "server/request_record.h"

namespace dla::server {

void ClassifyStreamReactor::Accept(v1::ClassifyStreamRequest message) {
  RequestRecord record(context_.unknown_model, Method::kClassifyStream, context_.clock);
  const uint64_t id = message.id();
  // The photo's bytes live as long as its answer is outstanding.
  auto request = std::make_unique<v1::ClassifyRequest>(std::move(*message.mutable_request()));

  auto refuse = [&](const absl::Status& status) {
    record.Finish(status.code());
    v1::ClassifyStreamResponse response;
    response.set_id(id);
    *response.mutable_result()->mutable_error() = ToRpcStatus(status);
    Send(std::move(response));
  };
  absl::StatusOr<Target> target = ResolveTarget(context_.registry, *request, client_);
  if (!target.ok()) return refuse(target.status());
  ServedModel& model = *target->model;  // the pipeline holds it until the answer
  record.SetModel(target->model);
  absl::StatusOr<Shares> shares =
      AdmitRequest(context_.budgets, model, target->caller, request->ByteSizeLong());
  if (!shares.ok()) return refuse(shares.status());
  const absl::string_view bytes = request->image();
  context_.pipeline.Submit(
      target->model, EncodedPhoto{bytes},
      {.options = target->options,
       .caller = target->caller,
       .deadline = deadline_,
       .cancelled = cancelled(),
       .done = [this, id, record, &model, request = std::move(request),
                shares = *std::move(shares)](absl::StatusOr<Answer> answer) mutable {
         shares.Return();
         record.Finish(answer.status().code());
         v1::ClassifyStreamResponse response;
         response.set_id(id);
         FillResult(model, std::move(answer), *response.mutable_result());
         Send(std::move(response));
       }});
}

}  // namespace dla::server
