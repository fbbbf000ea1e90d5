// Antialiased resizing in Pillow's fixed-point arithmetic, equal to it in every pixel.
#pragma once

#include <cstdint>
#include <memory>

#include "model/image.h"
#include "model/input_spec.h"

namespace dla {

// A rectangle of a resized region. Its sides are >= 1 and it lies within the resized photo.
struct ResizedPart {
  int64_t resized_height;  // of the whole, >= 1
  int64_t resized_width;
  int64_t top;
  int64_t left;
  int height;
  int width;
};

// The 8-bit result between the two passes is part of the arithmetic, so their order is as well.
// Pillow 13 starts with the vertical one for photos that shrink mostly in height; older ones never.
bool VerticalPassFirst(int photo_height, int photo_width, const ResizedPart& part);

// What the part holds of Pillow's photo.resize((resized_width, resized_height), interpolation,
// box=region). `region` lies within the photo.
// Only that part is computed, so memory and time follow the sizes of the photo and of the part,
// however large the whole would be. It lies in `memory`, or on the heap if that is null. May throw
// std::bad_alloc. Thread-safe.
// Source: Pillow 13, src/libImaging/Resample.c (bilinear, bicubic), Geometry.c (nearest).
Image ResizePart(const Image& photo, const Region& region, const ResizedPart& part,
                 Interpolation interpolation, std::shared_ptr<PixelMemory> memory = nullptr);

}  // namespace dla
