#include "server/decoders.h"

#include <algorithm>
#include <utility>

#include "model/image_codec.h"
#include "model/status_macros.h"

namespace dla::server {

LoadImageOptions LoadOptionsOf(const ServerConfig& config) {
  return {.max_pixels = config.max_pixels,
          .max_side = config.max_side,
          .max_jpeg_scans = config.max_jpeg_scans,
          .apply_exif_orientation = config.exif_orientation,
          .reduced_scale_decode = config.reduced_scale_decode};
}

DecodeFunction RealDecode(const ServerConfig& config) {
  return [options = LoadOptionsOf(config)](absl::string_view bytes, const InputSpec& spec,
                                           Proceed proceed, std::shared_ptr<PixelMemory> memory) {
    LoadImageOptions into = options;
    into.memory = std::move(memory);
    return LoadImage(bytes, spec, into, std::move(proceed));
  };
}

PixelsFunction RealCountPixels(const ServerConfig& config) {
  return [max_pixels = config.max_pixels](absl::string_view bytes) -> absl::StatusOr<int64_t> {
    DLA_ASSIGN_OR_RETURN(const ImageSize size, ReadImageSize(bytes));
    return std::min(size.pixels(), max_pixels);
  };
}

}  // namespace dla::server
