// Still WebP through libwebp.
#include <webp/decode.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/exif.h"
#include "model/codec/image_size.h"
#include "model/status_macros.h"

namespace dla::codec {
namespace {

constexpr size_t kRiffHeader = 12;  // "RIFF", size, "WEBP"
constexpr size_t kChunkHeader = 8;  // name, size; contents are padded to an even length

absl::string_view StatusName(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return "truncated, the data ends before the photo does";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "a feature that libwebp does not support";
    default:
      return "corrupt data";
  }
}

absl::Status ToStatus(VP8StatusCode status) {
  if (status == VP8_STATUS_OK) return absl::OkStatus();
  if (status == VP8_STATUS_OUT_OF_MEMORY) {
    return absl::ResourceExhaustedError("WebP: out of memory");
  }
  return absl::InvalidArgumentError(absl::StrCat("WebP: ", StatusName(status)));
}

uint32_t LittleEndian32(absl::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

int Orientation(absl::string_view bytes) {
  bytes.remove_prefix(std::min(bytes.size(), kRiffHeader));
  while (bytes.size() >= kChunkHeader) {
    const absl::string_view name = bytes.substr(0, 4);
    const size_t size = LittleEndian32(bytes.substr(4));
    bytes.remove_prefix(kChunkHeader);
    if (name == "EXIF") return ExifOrientation(bytes.substr(0, size));
    bytes.remove_prefix(std::min(bytes.size(), size + size % 2));
  }
  return 1;
}

// Hands the file over in slices, so that `proceed` is asked between them.
absl::Status DecodeSlices(absl::string_view bytes, const Proceed& proceed,
                          WebPDecoderConfig& config) {
  constexpr size_t kSlices = 64;
  constexpr size_t kLeastSlice = 4096;
  const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
  const std::unique_ptr<WebPIDecoder, void (*)(WebPIDecoder*)> decoder(
      WebPIDecode(nullptr, 0, &config), WebPIDelete);
  if (decoder == nullptr) return absl::ResourceExhaustedError("WebP: out of memory");
  const size_t slice = std::max(kLeastSlice, bytes.size() / kSlices);
  size_t end = 0;
  for (;;) {
    end += std::min(slice, bytes.size() - end);
    const VP8StatusCode status = WebPIUpdate(decoder.get(), data, end);
    if (status != VP8_STATUS_SUSPENDED || end == bytes.size()) return ToStatus(status);
    if (proceed != nullptr) DLA_RETURN_IF_ERROR(proceed());
  }
}

}  // namespace

absl::StatusOr<Decoded> DecodeWebp(absl::string_view bytes, const DecodeOptions& options) {
  DLA_ASSIGN_OR_RETURN(const ImageSize size, WebpSize(bytes));
  DLA_RETURN_IF_ERROR(CheckSize("WebP", size.width, size.height, options));
  const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0) return absl::InternalError("WebP: wrong libwebp");
  DLA_RETURN_IF_ERROR(ToStatus(WebPGetFeatures(data, bytes.size(), &config.input)));
  const int width = config.input.width;
  const int height = config.input.height;
  DLA_RETURN_IF_ERROR(CheckSize("WebP", width, height, options));
  if (config.input.has_animation != 0) {
    return absl::InvalidArgumentError("WebP: an animation; send a still photo");
  }

  Decoded decoded;
  Image& image = decoded.image;
  image.height = decoded.full_height = height;
  image.width = decoded.full_width = width;
  image.pixels.resize(image.height * image.row_bytes());
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = image.pixels.data();
  config.output.u.RGBA.stride = static_cast<int>(image.row_bytes());
  config.output.u.RGBA.size = image.pixels.size();
  DLA_RETURN_IF_ERROR(DecodeSlices(bytes, options.proceed, config));
  if (options.apply_exif_orientation) decoded.orientation = Orientation(bytes);
  return decoded;
}

}  // namespace dla::codec
