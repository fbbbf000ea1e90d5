// Int8 networks without any cleverness: loops over whole numbers, as quantization.h describes them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/folded_conv.h"
#include "model/graph.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/quantization.h"

namespace dla {

// [channels][height][width], in real numbers. What has a step is a multiple of it.
struct ReferenceImage {
  int channels = 0;
  int height = 0;
  int width = 0;
  std::vector<float> values;

  ReferenceImage() = default;
  ReferenceImage(int c, int h, int w)
      : channels(c), height(h), width(w), values(static_cast<size_t>(c) * h * w) {}
  float& at(int c, int y, int x) {
    return values[(static_cast<size_t>(c) * height + y) * width + x];
  }
  // 0 outside.
  float Get(int c, int y, int x) const {
    if (y < 0 || y >= height || x < 0 || x >= width) return 0;
    return values[(static_cast<size_t>(c) * height + y) * width + x];
  }
};

struct ReferenceOutput {
  std::vector<float> logits;
  std::vector<float> embedding;
  std::map<std::string, float> largest;  // magnitude of each value, by its name in quantization.h
};

// A photo of height x width x 3 bytes. If `quantization` leaves the first convolution out, it takes
// pixels and weights in bf16; without steps, all is in plain float32.
ReferenceOutput RunInt8Reference(const NetworkLayout& layout, TensorSource source,
                                 const Quantization& quantization, const InputSpec& input,
                                 const std::vector<uint8_t>& photo, bool first_in_bf16 = true);

// Steps from the largest values that a photo gives, and weights to match, for all convolutions.
Quantization QuantizeMinMax(const NetworkLayout& layout, TensorSource source,
                            const InputSpec& input, const std::vector<uint8_t>& photo);

}  // namespace dla
