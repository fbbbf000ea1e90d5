// Weights as they are computed with: each BatchNorm folded into the convolution before it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "model/layout.h"

namespace dla {

// Gives the values of the checkpoint's tensor of that name, row-major, in float32.
using TensorSource = absl::FunctionRef<std::vector<float>(const std::string& name)>;

// A convolution with bias and padding kernel / 2.
struct FoldedConv {
  int in_channels = 0;
  int out_channels = 0;
  int kernel = 1;
  int stride = 1;
  int groups = 1;
  std::vector<float> weight;  // [out_channels, in_channels / groups, kernel, kernel]
  std::vector<float> bias;    // [out_channels]

  // What puts out the channels [begin, end) alone. Without groups.
  FoldedConv Outputs(int begin, int end) const;
};

// conv(x) x gamma / sqrt(variance + 1e-5) + (beta - mean x gamma / sqrt(variance + 1e-5)), the
// epsilon being torch.nn.BatchNorm2d's default, which timm keeps.
FoldedConv FoldBatchNorm(const ConvLayout& layout, TensorSource source);

}  // namespace dla
