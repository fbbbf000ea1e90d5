// What a DLA does besides convolutions, on planes (see planes.h). Pointers lead to a plane's first
// pixel unless they are said to lead to its begin. Every function needs AVX-512.
#pragma once

#include <array>
#include <cstdint>

#include "model/cpu/planes.h"
#include "model/input_spec.h"
#include "model/photo_input.h"

namespace dla::cpu {

// Zeros all of a plane's border: what lies around its rows. `plane` is its begin.
void ClearBorder(char* plane, const PlaneGeometry& geometry, int64_t cell_bytes);

// Zeros the second pixel of the last cell of the rows [first, end): behind the last of an odd
// number of pixels.
void ClearLastHalves(char* target, const PlaneGeometry& geometry, int first, int end,
                     int64_t cell_bytes);

// Zeros what lies between the rows [first, end) and those behind them.
void ClearRowEnds(char* target, const PlaneGeometry& geometry, int first, int end,
                  int64_t cell_bytes);

// Maximum of each 2x2 pixels. The target has half the height and width.
void MaxPool2x2(const char* source, const PlaneGeometry& from, char* target,
                const PlaneGeometry& to, Element element);

// Average of 3x3 pixels at stride 2, zeros of the border among them.
void AveragePool3x3(const char* source, const PlaneGeometry& from, char* target,
                    const PlaneGeometry& to, Element element);

// a + b, over whole planes from their begins.
void Add(const char* a, const char* b, char* target, const PlaneGeometry& geometry,
         Element element);

// Average over all pixels of each of the cell's 32 channels.
void GlobalAverage(const char* source, const PlaneGeometry& geometry, Element element,
                   float* target);

// A photo as the first convolution reads it. The pixel pair x of a row becomes the cell of the
// normalised pixels 2x - 3 to 2x + 4 (zeros outside the photo), 4 values each: red, green, blue
// and 0. So a 7x7 convolution has only 7 taps, one for each row.
class WindowWriter {
 public:
  explicit WindowWriter(const InputSpec& spec);

  // height + 6 rows of ceil(width / 2) cells.
  PlaneGeometry geometry() const { return {height_, (width_ + 1) / 2, /*top=*/3, /*bottom=*/3}; }

  // Writes the rows [first, end). Does not touch the border. Thread-safe.
  void Write(const PhotoInput& photo, int first, int end, char* target, Element element) const;

 private:
  // Writes a row's normalised pixels, 4 values each.
  template <Element kElement>
  void WriteRow(const uint8_t* row, char* pixels) const;
  // `row` leads into the plane of red, which those of green and blue follow.
  template <Element kElement>
  void WriteRow(const float* row, char* pixels) const;
  template <Element kElement>
  void WriteWindows(const PhotoInput& photo, int first, int end, char* target) const;

  const int height_;
  const int width_;
  // (value / 255 - mean) / std = value * scale + offset, for red, green, blue and 0.
  std::array<float, 4> scale_{};
  std::array<float, 4> offset_{};
};

}  // namespace dla::cpu
