// From 8-bit pixels to what a network reads: (pixel / 255 - mean) / std for each channel.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/input_spec.h"

namespace dla {

// A pixel's value, times `scale`, plus `offset` is what the network reads, of R, G and B. Two
// roundings: the product is rounded to float, then the sum.
struct NormalizeFactors {
  explicit NormalizeFactors(const InputSpec& spec);
  std::array<float, 3> scale;
  std::array<float, 3> offset;
};

class Normalizer {
 public:
  explicit Normalizer(const InputSpec& spec);

  // `photo` and `out` hold height x width x 3 values, channels interleaved. Thread-safe.
  void ToFloat32(const uint8_t* photo, float* out) const;
  void ToBfloat16(const uint8_t* photo, uint16_t* out) const;  // the bits, rounded to nearest even

 private:
  int rows_;
  // Of each value of a row, so that the channels' pattern of three does not hinder vectorisation.
  std::vector<float> scale_;
  std::vector<float> offset_;
};

}  // namespace dla
