#include "server/replica.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics.h"
#include "server/model_statistics.h"

namespace dla::server {
namespace {

Answer MakeAnswer(const Model& model, const BatchOutput& output, size_t row,
                  const ClassifyOptions& options) {
  const size_t classes = model.info().num_classes;
  const size_t features = model.info().embedding_size;
  Answer answer;
  const auto logits = absl::MakeConstSpan(output.logits).subspan(row * classes, classes);
  if (options.top_k > 0) answer.classes = TopK(logits, options.top_k);
  if (options.include_logits) answer.logits.assign(logits.begin(), logits.end());
  if (options.include_probabilities) answer.probabilities = Softmax(logits);
  if (options.include_embedding) {
    const float* embedding = output.embeddings.data() + row * features;
    answer.embedding.assign(embedding, embedding + features);
    if (options.normalize_embedding) NormalizeL2(absl::MakeSpan(answer.embedding));
  }
  return answer;
}

}  // namespace

void Pace::Record(Duration batch, int photos) {
  const double sample = Seconds(batch) / photos;
  const double old = seconds_per_photo();
  // A lost update between replicas only makes the average a little older.
  seconds_per_photo_.store(old == 0 ? sample : 0.8 * old + 0.2 * sample, std::memory_order_relaxed);
}

Replica::Replica(const ReplicaContext& context) : context_(context), thread_([this] { Work(); }) {}

Replica::~Replica() { thread_.join(); }

void Replica::Work() {
  context_.model.PrepareThread(context_.compute_threads);
  for (;;) {
    std::vector<BatchQueue::Item> batch = context_.queue.NextBatch();
    if (batch.empty()) return;
    context_.metrics.replicas_busy->Increment();
    RunBatch(std::move(batch));
    context_.metrics.replicas_busy->Decrement();
  }
}

void Replica::RunBatch(std::vector<BatchQueue::Item> batch) {
  const TimePoint start = context_.clock.Now();
  photos_.clear();
  for (const BatchQueue::Item& item : batch) {
    photos_.push_back(item.normalized.empty() ? PhotoInput(item.pixels.pixels.data())
                                              : PhotoInput::Normalized(item.normalized.data()));
  }

  absl::Status status = context_.model.Run(photos_, output_);
  const Duration inference = context_.clock.Now() - start;

  const ModelInfo& info = context_.model.info();
  if (status.ok() && (output_.logits.size() != batch.size() * info.num_classes ||
                      output_.embeddings.size() != batch.size() * info.embedding_size)) {
    status = absl::InternalError(absl::StrCat("the model returned ", output_.logits.size(),
                                              " logits and ", output_.embeddings.size(),
                                              " features for ", batch.size(), " photos"));
  }
  const int batch_size = static_cast<int>(batch.size());
  if (status.ok()) {
    context_.pace.Record(inference, batch_size);
    context_.metrics.inference_seconds->Observe(Seconds(inference));
    context_.metrics.batch_size->Observe(batch_size);
  }
  BatchTimes times{.photos = batch_size, .inference = inference};
  for (size_t i = 0; i < batch.size(); ++i) {
    BatchQueue::Item& item = batch[i];
    if (!status.ok()) {
      std::move(item.context.done)(status);
      continue;
    }
    const TimePoint output_start = context_.clock.Now();
    Answer answer = MakeAnswer(context_.model, output_, i, item.context.options);
    times.output += context_.clock.Now() - output_start;
    times.decode += item.decode;
    times.queue += start - item.enqueued;
    // Before the caller can ask for them.
    if (i + 1 == batch.size()) context_.statistics.AddBatch(times);
    answer.timing = {.decode = item.decode,
                     .queue = start - item.enqueued,
                     .inference = inference,
                     .batch_size = batch_size};
    context_.metrics.queue_seconds->Observe(Seconds(answer.timing.queue));
    std::move(item.context.done)(std::move(answer));
  }
}

}  // namespace dla::server
