// Resizing and cropping of one photo, worked out for a device that only adds and multiplies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/input_spec.h"

namespace dla::gpu {

// Taps along one axis within ResizePlan::tables: `size` firsts, `size` counts, and weight t of
// result i at weights[t * size + i]. Firsts count from the plan's first row or column.
struct TapsTable {
  size_t first;
  size_t count;
  size_t weights;
  int size;
};

// What ResizeAndCrop does to a photo of one size, pixel by pixel the same.
struct ResizePlan {
  // Of the result.
  int height;
  int width;

  // The part of the upright photo that is read.
  int first_row;
  int rows;
  int first_column;
  int columns;

  // The part of the result that the photo fills; the rest gets padding_color.
  int top;
  int left;
  TapsTable row_taps;     // row_taps.size rows
  TapsTable column_taps;  // column_taps.size columns
  std::array<uint8_t, 3> padding_color;

  bool vertical_pass_first;
  std::vector<int32_t> tables;

  bool has_padding() const { return row_taps.size != height || column_taps.size != width; }
  // Bytes of each row of what lies between the passes, and of all of it.
  size_t scratch_stride() const {
    return size_t{3} * (vertical_pass_first ? columns : column_taps.size);
  }
  size_t scratch_bytes() const {
    return scratch_stride() * (vertical_pass_first ? row_taps.size : rows);
  }
};

// Of an upright photo of height x width pixels, each 1 .. 65,535. UNIMPLEMENTED: for
// Interpolation::kNearest, and for results that would overflow the device's 32-bit indices.
// RESOURCE_EXHAUSTED: out of memory. Thread-safe.
absl::StatusOr<ResizePlan> PlanResize(int height, int width, const InputSpec& spec);

}  // namespace dla::gpu
