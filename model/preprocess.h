// timm's eval transform: from a photo to the pixels that a network reads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image.h"
#include "model/image_codec.h"
#include "model/input_spec.h"
#include "model/resample.h"

namespace dla {

// What a network reads of a photo: a part of it, resized, and where that part is smaller than the
// network's input, a border around it.
struct Placement {
  ResizedPart part;
  int padding_top = 0;
  int padding_left = 0;
  std::array<uint8_t, 3> padding_color = {0, 0, 0};  // R, G, B
};

// Of a photo of full_height x full_width >= 1 pixels.
// Source: timm 1.0.31 timm/data/transforms_factory.py, torchvision Resize and CenterCrop.
Placement Place(int64_t full_height, int64_t full_width, const InputSpec& spec);

// Resizes (antialiased, Pillow's fixed-point arithmetic) and crops to spec.height x spec.width.
// Normalisation is not done here but on the device, from the uint8 pixels. Thread-safe.
// `photo` has at least one pixel. The result lies in `memory`, or on the heap if that is null.
// RESOURCE_EXHAUSTED when memory runs out.
absl::StatusOr<Image> ResizeAndCrop(const Image& photo, const InputSpec& spec,
                                    std::shared_ptr<PixelMemory> memory = nullptr);

struct LoadImageOptions {
  // As in DecodeOptions.
  int64_t max_pixels = DecodeOptions().max_pixels;
  int64_t max_side = DecodeOptions().max_side;
  int max_jpeg_scans = DecodeOptions().max_jpeg_scans;
  bool apply_exif_orientation = true;
  // Decode JPEGs that are much larger than needed at a reduced scale, while the short side stays at
  // least twice the resize target. Much faster; pixels differ from timm's by about half a level of
  // 255 on average. Everything else is equal to timm's. Not used for Interpolation::kNearest.
  bool reduced_scale_decode = true;
  std::shared_ptr<PixelMemory> memory;  // as in ResizeAndCrop
};

// DecodeImage, then ResizeAndCrop: encoded bytes to spec.height x spec.width pixels. `proceed` can
// end it, see there. Thread-safe.
absl::StatusOr<Image> LoadImage(absl::string_view bytes, const InputSpec& spec,
                                const LoadImageOptions& options, Proceed proceed = nullptr);

}  // namespace dla
