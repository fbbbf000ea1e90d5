// One forward pass after the other, whatever the model does: error, exception, no memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/model.h"
#include "server/batch_queue.h"
#include "server/metrics.h"
#include "server/photo.h"

namespace dla::server {

struct PassResult {
  absl::Status status;
  BatchFailure failure = BatchFailure::kError;  // where status is not OK
};

// Holds all that a pass touches but the photos. Used by one thread at a time; nothing throws.
class ForwardPass {
 public:
  explicit ForwardPass(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  // Prepares the calling thread for passes.
  PassResult Prepare(int compute_threads);

  // Prepares the calling thread and classifies a blank photo, with buffers as new.
  PassResult Trial(int compute_threads);

  // What the next Run classifies. The memory of their pixels stays as it is until Run returns.
  PassResult SetPhotos(absl::Span<const BatchQueue::Item> photos);

  // Touches nothing but this object, the model and the memory of the photos' pixels. Out of memory
  // is RESOURCE_EXHAUSTED; everything else that the model does not state itself is INTERNAL.
  PassResult Run();

  // Of the last Run, which was OK: what `options` ask for of its photo `row`, without the timing.
  absl::StatusOr<Answer> AnswerOf(size_t row, const ClassifyOptions& options) const;

  // Of the last Run, where a device measured it.
  const std::optional<StageTimes>& times() const { return output_.times; }

 private:
  absl::Status RunInputs();

  const std::shared_ptr<const Model> model_;
  std::vector<uint8_t> blank_;
  std::vector<PhotoInput> inputs_;
  BatchOutput output_;
};

}  // namespace dla::server
