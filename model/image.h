// A decoded photo in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/pixel_memory.h"

namespace dla {

// 8-bit RGB, rows from top to bottom, pixels interleaved (height x width x 3), no padding between
// rows.
struct Image {
  int height = 0;
  int width = 0;
  Pixels pixels;  // height * width * 3

  size_t row_bytes() const { return static_cast<size_t>(width) * 3; }
};

// A rectangle of an image in its pixels, whose edges may lie between two of them.
struct Region {
  double top = 0;
  double left = 0;
  double height = 0;
  double width = 0;
};

}  // namespace dla
