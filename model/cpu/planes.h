// How an image's channels lie in memory. 32 channels make a cell; a plane holds one cell for every
// pixel, row after row, with a border of zeros around it so that convolutions need no edge cases:
//
//   top rows of zeros    one zero    [row 0] zero [row 1] zero ... [row h-1] zero    bottom row
//
// The zero behind a row is also the one before the next. Images of 16 channels have two
// neighbouring pixels in a cell ("paired"), so that no cell is half empty.
//
// In int8 a cell is what a pixel has in one plane: 64 channels, or 32 or 16 where there are no more
// or where groups of channels stay among themselves. Kernels read windows of 64 bytes: one pixel,
// or 2 or 4 neighbours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dla::cpu {

inline constexpr int kCell = 32;  // channels, but in int8

enum class Element { kBf16, kFloat32, kInt8 };

// But in int8, where it is the number of the cell's channels.
constexpr int64_t CellBytes(Element element) { return element == Element::kBf16 ? 64 : 128; }

struct RowRange {
  int begin;
  int end;

  int size() const { return end - begin; }
  // Those that are in `bounds`, too.
  RowRange Within(RowRange bounds) const {
    return {std::clamp(begin, bounds.begin, bounds.end), std::clamp(end, bounds.begin, bounds.end)};
  }
};

// In cells.
struct PlaneGeometry {
  int height;
  int width;
  int top = 1;     // rows of zeros above
  int bottom = 1;  // and below
  int left = 1;    // zeros before the first row
  int align = 1;   // rows begin at multiples of so many cells, but for `left`

  // From row to row.
  int pitch() const { return (width + align) / align * align; }
  // Of the first pixel.
  int64_t origin() const { return int64_t{top} * pitch() + left; }
  int64_t cells() const { return int64_t{top + height + bottom} * pitch() + left + 1; }

  bool operator==(const PlaneGeometry&) const = default;
};

}  // namespace dla::cpu
