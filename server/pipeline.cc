#include "server/pipeline.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"
#include "server/metrics.h"

namespace dla::server {
namespace {

absl::Status QueueFull(const ServedModel& model) {
  return ResourceExhausted(absl::StrCat("the queue of model \"", model.name(), "\" is full (",
                                        model.options().queue.capacity, " photos)"),
                           model.PredictedWait());
}

}  // namespace

Pipeline::Pipeline(const Options& options, DecodeFunction decode, Clock& clock)
    : decode_(std::move(decode)),
      clock_(clock),
      pool_(options.decode_threads, options.prepare_decode_thread) {}

void Pipeline::Submit(ServedModel& model, absl::string_view bytes, PhotoContext context) {
  ModelMetrics& metrics = model.metrics();
  metrics.in_flight->Increment();
  context.done = [&metrics, done = std::move(context.done)](absl::StatusOr<Answer> answer) mutable {
    metrics.in_flight->Decrement();
    std::move(done)(std::move(answer));
  };

  std::optional<BatchQueue::Place> place = model.queue().TryReserve();
  if (!place.has_value()) {
    std::move(context.done)(QueueFull(model));
    return;
  }
  pool_.Submit(
      [this, &model, bytes, context = std::move(context), place = *std::move(place)]() mutable {
        const auto refuse = [&context, &place](absl::Status status) {
          { const BatchQueue::Place freed = std::move(place); }  // before the caller may come back
          std::move(context.done)(std::move(status));
        };
        const TimePoint start = clock_.Now();
        if (absl::Status status = context.Abandoned(start); !status.ok()) {
          model.metrics().CountAbandoned(status);
          refuse(std::move(status));
          return;
        }
        absl::StatusOr<Image> pixels = decode_(bytes, model.info().input);
        const Duration took = clock_.Now() - start;
        if (!pixels.ok()) {
          refuse(pixels.status());
          return;
        }
        model.metrics().decode_seconds->Observe(Seconds(took));
        model.queue().Push(
            {.context = std::move(context), .pixels = *std::move(pixels), .decode = took},
            std::move(place));
      });
}

}  // namespace dla::server
