// Convolutions of quantization.h in terms of windows and panels (see int8_conv_kernel.h).
#pragma once

#include <array>
#include <vector>

#include "model/cpu/int8_conv_kernel.h"
#include "model/cpu/planes.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/quantization.h"

namespace dla::cpu {

// The inputs are joined by channels in this order. All have cells of the same size and the same
// geometry, but for PlaneGeometry::left.
struct Int8Inputs {
  std::vector<int> channels;  // of each
  int cell = 0;
  int pitch = 0;
};

// What part of the convolution's outputs is computed, and what becomes of it.
struct Int8Output {
  int first_channel = 0;
  int channels = 0;
  Element element = Element::kInt8;
  int cell_channels = 0;
  float step = 1;  // of a target in int8
  bool is_signed = false;
  bool relu = true;
};

struct Int8Residual {
  bool present = false;
  int cell = 0;
  float step = 1;
  bool is_signed = false;
};

// Pixels of the output that one window gives.
int UnitPixels(int cell, int stride);

Int8ConvSpec MakeInt8ConvSpec(const ConvLayout& layout, const Int8Conv& conv,
                              const Int8Inputs& inputs, const Int8Output& output,
                              const Int8Residual& residual);

// The first convolution, 7x7 with a stride of 1 to at most 16 channels, over PhotoBytes. `step` is
// the output's, whose cells have 16 channels.
Int8ConvSpec MakeFirstInt8ConvSpec(const ConvLayout& layout, const Int8Conv& conv,
                                   const InputSpec& input, float step);

// Where the two halves of 32 channels from `channel` on lie in an int8 value.
std::array<Int8Half, 2> HalvesOf(int channel, int cell);

}  // namespace dla::cpu
