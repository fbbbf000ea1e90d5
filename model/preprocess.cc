#include "model/preprocess.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <utility>

#include "model/status_macros.h"

namespace dla {
namespace {

struct Size {
  int64_t height;
  int64_t width;
};

// What the sides are resized to before they are cropped.
Size ScaleSize(const InputSpec& spec) {
  constexpr double kLargest = 1e9;  // beyond any use; keeps products with a photo's side exact
  const auto scale = [&](int side) {
    return static_cast<int64_t>(std::min(kLargest, std::floor(side / spec.crop_pct)));
  };
  return {scale(spec.height), scale(spec.width)};
}

// torchvision Resize(int): the short side exactly, the long side rounded down.
Size ResizeShortSide(Size photo, int64_t to) {
  const double short_side = static_cast<double>(std::min(photo.height, photo.width));
  const auto scale = [&](int64_t side) {
    return static_cast<int64_t>(static_cast<double>(to * side) / short_side);
  };
  return photo.width <= photo.height ? Size{scale(photo.height), to} : Size{to, scale(photo.width)};
}

// timm ResizeKeepRatio: to cover the size, or to fit into it; rounded half to even.
Size ResizeKeepRatio(Size photo, Size to, bool fit) {
  const double by_height = static_cast<double>(photo.height) / static_cast<double>(to.height);
  const double by_width = static_cast<double>(photo.width) / static_cast<double>(to.width);
  const double ratio = fit ? std::max(by_height, by_width) : std::min(by_height, by_width);
  const auto scale = [ratio](int64_t side) {
    const int64_t scaled = std::llrint(static_cast<double>(side) / ratio);
    return std::max<int64_t>(1, scaled);  // timm fails where this is 0
  };
  return {scale(photo.height), scale(photo.width)};
}

Size ResizedSize(Size photo, const InputSpec& spec) {
  const Size scale = ScaleSize(spec);
  switch (spec.crop_mode) {
    case CropMode::kSquash:
      return scale;
    case CropMode::kBorder:
      return ResizeKeepRatio(photo, scale, /*fit=*/true);
    case CropMode::kCenter:
      break;
  }
  if (scale.height == scale.width) return ResizeShortSide(photo, scale.height);
  return ResizeKeepRatio(photo, scale, /*fit=*/false);
}

// Where `crop` pixels in the middle of `resized` lie along one axis. What is missing is padded.
struct CenterCrop {
  CenterCrop(int64_t resized, int crop) {
    if (crop >= resized) {
      length = static_cast<int>(resized);
      padding_before = (crop - length) / 2;
    } else {
      const int64_t half = (resized - crop) / 2;
      begin = (resized - crop) % 2 == 0 ? half : half + half % 2;  // torchvision: half to even
      length = crop;
    }
  }
  int64_t begin = 0;
  int length = 0;
  int padding_before = 0;
};

std::array<uint8_t, 3> PaddingColor(const InputSpec& spec) {
  std::array<uint8_t, 3> color = {0, 0, 0};
  if (spec.crop_mode != CropMode::kBorder) return color;
  for (int c = 0; c < 3; ++c) {
    color[c] = static_cast<uint8_t>(std::clamp(std::nearbyint(255.0f * spec.mean[c]), 0.f, 255.f));
  }
  return color;
}

Image Pad(const Image& photo, const InputSpec& spec, const Placement& placement,
          std::shared_ptr<PixelMemory> memory) {
  Image out;
  out.height = spec.height;
  out.width = spec.width;
  out.pixels = Pixels(out.height * out.row_bytes(), PixelAllocator<uint8_t>(std::move(memory)));
  for (size_t i = 0; i < out.pixels.size(); ++i) out.pixels[i] = placement.padding_color[i % 3];
  for (int y = 0; y < photo.height; ++y) {
    std::copy_n(photo.pixels.begin() + y * photo.row_bytes(), photo.row_bytes(),
                out.pixels.begin() + (placement.padding_top + y) * out.row_bytes() +
                    placement.padding_left * 3);
  }
  return out;
}

// `region` holds the photo, which had the size `full` before it was decoded at a reduced scale.
absl::StatusOr<Image> ResizeAndCrop(const Image& image, const Region& region, Size full,
                                    const InputSpec& spec,
                                    std::shared_ptr<PixelMemory> memory) try {
  const Placement placement = Place(full.height, full.width, spec);
  Image part = ResizePart(image, region, placement.part, spec.interpolation, memory);
  if (part.height == spec.height && part.width == spec.width) return part;
  return Pad(part, spec, placement, std::move(memory));
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("out of memory while resizing a photo");
}

}  // namespace

Placement Place(int64_t full_height, int64_t full_width, const InputSpec& spec) {
  const Size resized = ResizedSize({full_height, full_width}, spec);
  const CenterCrop rows(resized.height, spec.height);
  const CenterCrop columns(resized.width, spec.width);
  return {.part = {.resized_height = resized.height,
                   .resized_width = resized.width,
                   .top = rows.begin,
                   .left = columns.begin,
                   .height = rows.length,
                   .width = columns.length},
          .padding_top = rows.padding_before,
          .padding_left = columns.padding_before,
          .padding_color = PaddingColor(spec)};
}

absl::StatusOr<Image> ResizeAndCrop(const Image& photo, const InputSpec& spec,
                                    std::shared_ptr<PixelMemory> memory) {
  const Region whole = {.height = static_cast<double>(photo.height),
                        .width = static_cast<double>(photo.width)};
  return ResizeAndCrop(photo, whole, {photo.height, photo.width}, spec, std::move(memory));
}

absl::StatusOr<Image> LoadImage(absl::string_view bytes, const InputSpec& spec,
                                const LoadImageOptions& options, Proceed proceed) {
  DecodeOptions decode;
  decode.max_pixels = options.max_pixels;
  decode.max_side = options.max_side;
  decode.max_jpeg_scans = options.max_jpeg_scans;
  decode.apply_exif_orientation = options.apply_exif_orientation;
  decode.proceed = std::move(proceed);
  // Nearest picks single pixels, so it would see other ones.
  if (options.reduced_scale_decode && spec.interpolation != Interpolation::kNearest) {
    const Size scale = ScaleSize(spec);
    constexpr int64_t kLargestJpeg = 65535;
    decode.min_short_side =
        static_cast<int>(std::min(kLargestJpeg, 2 * std::max(scale.height, scale.width)));
  }
  DLA_ASSIGN_OR_RETURN(const DecodedImage photo, DecodeImage(bytes, decode));
  return ResizeAndCrop(photo.image, photo.region, {photo.full_height, photo.full_width}, spec,
                       options.memory);
}

}  // namespace dla
