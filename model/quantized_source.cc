#include "model/quantized_source.h"

#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/int8_conv.h"

namespace dla {

QuantizedSource::QuantizedSource(const NetworkLayout& layout, const InputSpec& input,
                                 const Quantization& quantization, TensorSource source)
    : graph_(MakeGraph(layout)), input_(input), quantization_(quantization), source_(source) {}

std::vector<float> QuantizedSource::operator()(const std::string& name) const {
  for (const GraphOp& op : graph_.ops) {
    const auto found = quantization_.convs.find(op.conv.conv);
    if (op.kind != GraphOp::Kind::kConv || found == quantization_.convs.end()) continue;
    const Int8Conv& conv = found->second;
    const size_t channels = conv.bias.size();
    if (name == absl::StrCat(op.conv.conv, ".weight")) {
      return Dequantize(op.conv, conv, InputSteps(graph_, op, quantization_.steps, input_)).weight;
    }
    // FoldBatchNorm's factor then is 1.
    if (name == absl::StrCat(op.conv.norm, ".weight")) {
      return std::vector<float>(channels, std::sqrt(1 + 1e-5F));
    }
    if (name == absl::StrCat(op.conv.norm, ".running_var")) return std::vector<float>(channels, 1);
    if (name == absl::StrCat(op.conv.norm, ".running_mean")) return std::vector<float>(channels);
    if (name == absl::StrCat(op.conv.norm, ".bias")) return conv.bias;
  }
  return source_(name);
}

Quantization RoundNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                          std::map<std::string, float> steps) {
  const Graph graph = MakeGraph(layout);
  Quantization result;
  result.steps = std::move(steps);
  for (const GraphOp& op : graph.ops) {
    if (op.kind != GraphOp::Kind::kConv) continue;
    result.convs[op.conv.conv] =
        RoundWeights(FoldBatchNorm(op.conv, source), InputSteps(graph, op, result.steps, input));
  }
  return result;
}

}  // namespace dla
