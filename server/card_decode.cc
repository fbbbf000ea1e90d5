#include "server/card_decode.h"

#include <atomic>
#include <new>
#include <utility>

#include "model/gpu/plain_jpeg.h"
#include "model/status_macros.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {

DecodeFunction DecodeOnCard(std::shared_ptr<gpu::JpegDecoder> card,
                            const LoadImageOptions& options) {
  return [card = std::move(card), options](
             absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
             std::shared_ptr<PixelMemory> memory) -> absl::StatusOr<Image> {
    DLA_ASSIGN_OR_RETURN(const gpu::JpegPhoto photo, gpu::PlanJpeg(bytes, spec, options));
    if (proceed != nullptr) DLA_RETURN_IF_ERROR(proceed());
    Image image{.height = photo.plan.height, .width = photo.plan.width};
    try {
      image.pixels =
          Pixels(image.height * image.row_bytes(), PixelAllocator<uint8_t>(std::move(memory)));
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("out of memory while decoding a photo");
    }
    DLA_RETURN_IF_ERROR(card->Decode(photo, image.pixels.data()));
    return image;
  };
}

DecodeFunction DecodeWithFallback(std::string name, std::shared_ptr<gpu::JpegDecoder> card,
                                  const LoadImageOptions& options, DecodeFunction processor) {
  auto lost = std::make_shared<std::atomic<bool>>(false);
  return [name = std::move(name), on_card = DecodeOnCard(std::move(card), options),
          processor = std::move(processor), lost = std::move(lost)](
             absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
             std::shared_ptr<PixelMemory> memory) -> absl::StatusOr<Image> {
    if (!*lost) {
      absl::Status stopped;
      const auto ask = [&] { return stopped = proceed == nullptr ? absl::OkStatus() : proceed(); };
      absl::StatusOr<Image> image = on_card(bytes, spec, ask, memory);
      if (image.ok()) return image;
      if (!stopped.ok()) return stopped;
      if (absl::IsUnavailable(image.status()) && !lost->exchange(true)) {
        spdlog::error("decoder={} lost; photos are decoded by the processor from now on: {}", name,
                      LogValue(image.status().message()));
      }
    }
    return processor(bytes, spec, proceed, std::move(memory));
  };
}

}  // namespace dla::server
