// A photo as an int8 first convolution reads it.
#pragma once

#include <array>
#include <cstdint>

#include "model/cpu/planes.h"
#include "model/input_spec.h"

namespace dla::cpu {

// Cells of 8 bytes: red, green and blue of a pixel, 0, and the same of the pixel below it. What
// lies outside the photo is the byte nearest to the mean, which for the network is 0. A window of
// 64 bytes thus holds 8 pixels of two rows, and a 7x7 convolution has only 4 taps.
inline constexpr int kPhotoCell = 8;
inline constexpr int kPhotoBorder = 3;  // pixels around the photo that a 7x7 convolution reads

// Immutable, thread-safe.
class PhotoBytes {
 public:
  explicit PhotoBytes(const InputSpec& input);

  // Whether the means are bytes.
  static bool Fit(const InputSpec& input);

  // `width` is more than the photo's: rows begin with cache lines, and between two of them there
  // is room for what windows read of both borders.
  static PlaneGeometry Geometry(const InputSpec& input);

  // Rows that exist: those outside the photo, too.
  RowRange rows() const { return {-kPhotoBorder, height_ + kPhotoBorder}; }

  // Writes the rows [first, end) of `pixels`, height x width x 3 bytes of RGB, with their borders.
  // `target` is the first pixel of the photo's first row. May write 16 cells beyond the last one.
  void Write(const uint8_t* pixels, int first, int end, char* target) const;

 private:
  const int height_;
  const int width_;
  const int64_t row_bytes_;
  std::array<uint8_t, 4> outside_{};
};

}  // namespace dla::cpu
