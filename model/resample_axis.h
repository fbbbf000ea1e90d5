// What each pixel along one axis of a resized photo is made of, in Pillow's fixed-point arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "model/input_spec.h"

namespace dla {

// Weights are integers in units of 2^-22, as many bits as leave room in an int for 8 bits of pixel
// and 2 of overshoot.
constexpr int kResampleWeightBits = 22;

// One output coordinate: input coordinates first .. first + count - 1. count may be 0.
struct ResampleTaps {
  int first;
  int count;
  const int* weights;
};

// The taps of output coordinates begin .. begin + count - 1 along an axis of `input` pixels, of
// which the part from .. from + extent becomes `output` pixels. count >= 1. Not for kNearest.
// May throw std::bad_alloc.
class ResampleAxis {
 public:
  ResampleAxis(int input, double from, double extent, int64_t output, int64_t begin, int count,
               Interpolation interpolation);
  ResampleAxis(const ResampleAxis&) = delete;
  ResampleAxis& operator=(const ResampleAxis&) = delete;

  const ResampleTaps& operator[](int i) const { return taps_[i]; }
  int size() const { return static_cast<int>(taps_.size()); }
  int max_taps() const { return max_taps_; }  // of one coordinate
  // The input coordinates that any of the taps need: first() .. end() - 1.
  int first() const { return taps_.front().first; }
  int end() const { return taps_.back().first + taps_.back().count; }

 private:
  int max_taps_;
  std::vector<int> weights_;
  std::vector<ResampleTaps> taps_;
};

}  // namespace dla
