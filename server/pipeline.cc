#include "server/pipeline.h"

#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/preprocess.h"
#include "model/status_macros.h"
#include "server/grpc_status.h"
#include "server/metrics.h"

namespace dla::server {
namespace {

absl::Status QueueFull(const ServedModel& model) {
  return ResourceExhausted(absl::StrCat("the queue of model \"", model.name(), "\" is full (",
                                        model.options().queue.capacity, " photos)"),
                           model.PredictedWait());
}

absl::StatusOr<std::vector<float>> CopyNormalized(absl::string_view bytes, const InputSpec& spec) {
  static_assert(std::endian::native == std::endian::little);
  const size_t count = size_t{3} * spec.height * spec.width;
  if (bytes.size() != count * sizeof(float)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a normalised photo of ", bytes.size(), " bytes; this model takes ", count * sizeof(float),
        ", 3 x ", spec.height, " x ", spec.width, " values of float32"));
  }
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());  // which may be misaligned
  return values;
}

}  // namespace

Pipeline::Pipeline(const Options& options, DecodeFunction decode, Clock& clock)
    : decode_(std::move(decode)),
      clock_(clock),
      pool_(options.decode_threads, options.prepare_decode_thread) {}

absl::StatusOr<Pipeline::Prepared> Pipeline::Prepare(const PhotoSource& photo,
                                                     const InputSpec& spec) const {
  Prepared prepared;
  if (const auto* normalized = std::get_if<NormalizedPhoto>(&photo)) {
    DLA_ASSIGN_OR_RETURN(prepared.normalized, CopyNormalized(normalized->values, spec));
  } else if (const auto* raw = std::get_if<RawPhoto>(&photo)) {
    Image image{.height = raw->height, .width = raw->width};
    image.pixels.assign(raw->pixels.begin(), raw->pixels.end());
    if (raw->height == spec.height && raw->width == spec.width) {
      prepared.pixels = std::move(image);
    } else {
      DLA_ASSIGN_OR_RETURN(prepared.pixels, ResizeAndCrop(image, spec));
    }
  } else {
    DLA_ASSIGN_OR_RETURN(prepared.pixels, decode_(std::get<EncodedPhoto>(photo).bytes, spec));
  }
  return prepared;
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
    absl::StatusOr<Prepared> prepared = Prepare(photo, model.info().input);
    const Duration took = clock_.Now() - start;
    if (!prepared.ok()) {
      refuse(prepared.status());
      return;
    }
    model.metrics().decode_seconds->Observe(Seconds(took));
    model.queue().Push({.context = std::move(context),
                        .pixels = std::move(prepared->pixels),
                        .normalized = std::move(prepared->normalized),
                        .decode = took},
                       std::move(place));
  });
}

}  // namespace dla::server
