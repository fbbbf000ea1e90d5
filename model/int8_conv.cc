#include "model/int8_conv.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dla {
namespace {

constexpr float kMost = 127;

// Calls `visit(i, step)` for each weight of output channel `out`, with its input's step.
template <typename Visit>
void ForRow(int out, int out_channels, int groups, int row_channels, int pixels,
            absl::Span<const float> input_steps, Visit visit) {
  const int group = out / (out_channels / groups);
  for (int channel = 0, i = 0; channel < row_channels; ++channel) {
    const float step = input_steps[group * row_channels + channel];
    for (int pixel = 0; pixel < pixels; ++pixel, ++i) visit(i, step);
  }
}

float Rounded(float value, float scale) {
  return std::clamp(std::nearbyint(value / scale), -kMost, kMost);
}

double Error(absl::Span<const float> values, float scale) {
  double error = 0;
  for (float value : values) {
    const float off = value - Rounded(value, scale) * scale;
    error += off * off;
  }
  return error;
}

float BestScale(absl::Span<const float> values) {
  float largest = 0;
  for (float value : values) largest = std::max(largest, std::abs(value));
  const float widest = largest / kMost;
  if (widest < kLeastScale) return 1;  // nothing but zeros, or nearly
  float best = widest;
  double least = Error(values, widest);
  for (int percent = 98; percent >= 60; percent -= 2) {
    const float scale = widest * static_cast<float>(percent) / 100;
    if (scale < kLeastScale) break;
    const double error = Error(values, scale);
    if (error >= least) continue;
    least = error;
    best = scale;
  }
  return best;
}

}  // namespace

std::vector<float> InputSteps(const Graph& graph, const GraphOp& op,
                              const std::map<std::string, float>& steps, const InputSpec& input) {
  std::vector<float> result;
  for (const GraphInput& part : op.inputs) {
    if (part.value == 0) {
      for (float std : input.std) result.push_back(1 / (255 * std));
    } else {
      result.insert(result.end(), part.channels, steps.at(graph.values[part.value].name));
    }
  }
  return result;
}

Int8Conv RoundWeights(const FoldedConv& conv, absl::Span<const float> input_steps) {
  Int8Conv result;
  result.bias = conv.bias;
  result.weight.resize(conv.weight.size());
  const int pixels = conv.kernel * conv.kernel;
  const int row_channels = conv.in_channels / conv.groups;
  std::vector<float> row(static_cast<size_t>(row_channels) * pixels);
  for (int out = 0; out < conv.out_channels; ++out) {
    const size_t begin = out * row.size();
    ForRow(out, conv.out_channels, conv.groups, row_channels, pixels, input_steps,
           [&](int i, float step) { row[i] = conv.weight[begin + i] * step; });
    const float scale = BestScale(row);
    result.scale.push_back(scale);
    for (size_t i = 0; i < row.size(); ++i) {
      result.weight[begin + i] = static_cast<int8_t>(Rounded(row[i], scale));
    }
  }
  return result;
}

FoldedConv Dequantize(const ConvLayout& layout, const Int8Conv& conv,
                      absl::Span<const float> input_steps) {
  FoldedConv result{layout.in_channels, layout.out_channels, layout.kernel,
                    layout.stride,      layout.groups,       {},
                    conv.bias};
  result.weight.resize(conv.weight.size());
  const int pixels = layout.kernel * layout.kernel;
  const int row_channels = layout.in_channels / layout.groups;
  for (int out = 0; out < layout.out_channels; ++out) {
    const size_t begin = static_cast<size_t>(out) * row_channels * pixels;
    ForRow(out, layout.out_channels, layout.groups, row_channels, pixels, input_steps,
           [&](int i, float step) {
             result.weight[begin + i] =
                 static_cast<float>(conv.weight[begin + i]) * conv.scale[out] / step;
           });
  }
  return result;
}

}  // namespace dla
