#include "server/pipeline.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/preprocess.h"
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

absl::StatusOr<Image> Pipeline::Prepare(const PhotoSource& photo, const InputSpec& spec) const {
  if (const auto* encoded = std::get_if<EncodedPhoto>(&photo)) return decode_(encoded->bytes, spec);
  const RawPhoto& raw = std::get<RawPhoto>(photo);
  Image image{.height = raw.height, .width = raw.width};
  image.pixels.assign(raw.pixels.begin(), raw.pixels.end());
  if (raw.height == spec.height && raw.width == spec.width) return image;
  return ResizeAndCrop(image, spec);
}

void Pipeline::Submit(std::shared_ptr<ServedModel> model, PhotoSource photo, PhotoContext context) {
  ModelMetrics& metrics = model->metrics();
  metrics.in_flight->Increment();
  context.done = [model, done = std::move(context.done)](absl::StatusOr<Answer> answer) mutable {
    model->metrics().in_flight->Decrement();
    std::move(done)(std::move(answer));
  };

  std::optional<BatchQueue::Place> place = model->queue().TryReserve();
  if (!place.has_value()) {
    std::move(context.done)(QueueFull(*model));
    return;
  }
  // The context holds the model.
  pool_.Submit([this, &model = *model, photo, context = std::move(context),
                place = *std::move(place)]() mutable {
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
    absl::StatusOr<Image> pixels = Prepare(photo, model.info().input);
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
