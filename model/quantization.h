// A network's convolutions in int8: what they compute with and what their results are worth.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dla {

// Bounds of scales and steps, so that no product or quotient of two of them leaves float32.
inline constexpr float kLeastScale = 1e-15F;
inline constexpr float kMostScale = 1e15F;

// A convolution after its BatchNorm was folded into it, over inputs that are whole numbers q:
//   scale[o] x sum(weight[o][i] x q[i]) + bias[o]  [+ residual]  [ReLU]
// In the first convolution q is the photo's byte less 255 x mean, and a step is worth
// 1 / (255 x std): nothing is lost by that.
// What one step of each input channel is worth is part of the weights before they are rounded,
// weight[o][i] = round(w[o][i] x step(i) / scale[o]), so inputs that are joined by channels need
// not share one step.
struct Int8Conv {
  std::vector<int8_t> weight;  // [out_channels, in_channels / groups, kernel, kernel], -127 to 127
  std::vector<float> scale;    // [out_channels], positive and finite
  std::vector<float> bias;     // [out_channels], finite
};

// By timm's names of convolutions ("level2.tree1.conv1").
struct Quantization {
  // Convolutions that are not here are computed in the engine's wider type.
  std::map<std::string, Int8Conv> convs;

  // What one step of a convolution's result is worth, after its residual and ReLU: positive and
  // finite. Results are 0 to 255 where a ReLU follows, else (tree.project) -127 to 127. Pooling
  // keeps the step. In a Bottle2neck the sum that a convolution reads has a step of its own, under
  // that convolution's name with ".input" appended. Every value that a convolution of `convs` reads
  // has its step here, but for the photo.
  std::map<std::string, float> steps;
};

}  // namespace dla
