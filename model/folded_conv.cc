#include "model/folded_conv.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dla {

FoldedConv FoldBatchNorm(const ConvLayout& layout, TensorSource source) {
  constexpr float kEpsilon = 1e-5F;
  const std::vector<float> gamma = source(absl::StrCat(layout.norm, ".weight"));
  const std::vector<float> beta = source(absl::StrCat(layout.norm, ".bias"));
  const std::vector<float> mean = source(absl::StrCat(layout.norm, ".running_mean"));
  const std::vector<float> variance = source(absl::StrCat(layout.norm, ".running_var"));
  FoldedConv conv{layout.in_channels,
                  layout.out_channels,
                  layout.kernel,
                  layout.stride,
                  layout.groups,
                  source(absl::StrCat(layout.conv, ".weight")),
                  {}};
  const size_t row = conv.weight.size() / conv.out_channels;
  for (int out = 0; out < conv.out_channels; ++out) {
    const float scale = gamma[out] / std::sqrt(variance[out] + kEpsilon);
    for (size_t i = 0; i < row; ++i) conv.weight[out * row + i] *= scale;
    conv.bias.push_back(beta[out] - mean[out] * scale);
  }
  return conv;
}

FoldedConv FoldedConv::Outputs(int begin, int end) const {
  const int64_t row = int64_t{in_channels} * kernel * kernel;
  FoldedConv part = {in_channels, end - begin, kernel, stride, groups, {}, {}};
  part.weight.assign(weight.begin() + begin * row, weight.begin() + end * row);
  part.bias.assign(bias.begin() + begin, bias.begin() + end);
  return part;
}

}  // namespace dla
