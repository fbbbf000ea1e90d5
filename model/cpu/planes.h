// How an image's channels lie in memory. 32 channels make a cell; a plane holds one cell for every
// pixel, row after row, with a border of zeros around it so that convolutions need no edge cases:
//
//   top rows of zeros    one zero    [row 0] zero [row 1] zero ... [row h-1] zero    bottom row
//
// The zero behind a row is also the one before the next. Images of 16 channels have two
// neighbouring pixels in a cell ("paired"), so that no cell is half empty.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dla::cpu {

inline constexpr int kCell = 32;  // channels

enum class Element { kBf16, kFloat32 };

constexpr int64_t CellBytes(Element element) { return element == Element::kBf16 ? 64 : 128; }

struct RowRange {
  int begin;
  int end;

  int size() const { return end - begin; }
};

// In cells.
struct PlaneGeometry {
  int height;
  int width;
  int top = 1;     // rows of zeros above
  int bottom = 1;  // and below

  int pitch() const { return width + 1; }                        // from row to row
  int64_t origin() const { return int64_t{top} * pitch() + 1; }  // of the first pixel
  int64_t cells() const { return int64_t{top + height + bottom} * pitch() + 2; }

  // Those rows that are not above or below the image.
  RowRange Inside(RowRange rows) const {
    return {std::clamp(rows.begin, 0, height), std::clamp(rows.end, 0, height)};
  }

  bool operator==(const PlaneGeometry&) const = default;
};

}  // namespace dla::cpu
