// What a DLA does besides convolutions, in int8 (see planes.h): on whole numbers from 0 to 255.
// Pointers lead to a plane's first pixel; `cell` is the channels of a cell. All need AVX-512.
#pragma once

#include <array>
#include <cstdint>

#include "model/cpu/planes.h"

namespace dla::cpu {

// Maximum of each 2x2 pixels. The target has half the height and width.
void MaxPool2x2Int8(const char* source, const PlaneGeometry& from, char* target,
                    const PlaneGeometry& to, int cell);

// Average of 3x3 pixels at stride 2, zeros of the border among them.
void AveragePool3x3Int8(const char* source, const PlaneGeometry& from, char* target,
                        const PlaneGeometry& to, int cell);

// All planes of an image.
struct Int8View {
  const char* first;
  int64_t plane_bytes;
  int pitch;
  int cell;
};

// a x factors[0] + b x factors[1], rounded to nearest even, for one plane of the result.
void AddInt8(const Int8View& a, const Int8View& b, const std::array<float, 2>& factors, int plane,
             char* target, const PlaneGeometry& geometry, int cell);

}  // namespace dla::cpu
