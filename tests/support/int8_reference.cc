#include "tests/support/int8_reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "model/int8_conv.h"
#include "model/quantized_source.h"

namespace dla {
namespace {

float RoundToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

ReferenceImage Normalized(const std::vector<uint8_t>& photo, const InputSpec& spec, bool in_bf16) {
  ReferenceImage image(3, spec.height, spec.width);
  for (int i = 0; i < 3 * spec.height * spec.width; ++i) {
    const int c = i % 3;
    const float value = std::fma(static_cast<float>(photo[i]), 1 / (255 * spec.std[c]),
                                 -spec.mean[c] / spec.std[c]);
    image.at(c, i / 3 / spec.width, i / 3 % spec.width) = in_bf16 ? RoundToBf16(value) : value;
  }
  return image;
}

class Runner {
 public:
  Runner(const NetworkLayout& layout, TensorSource source, const Quantization& quantization,
         const InputSpec& input)
      : input_(input),
        source_(source),
        quantization_(quantization),
        graph_(MakeGraph(layout)),
        values_(graph_.values.size()) {}

  ReferenceOutput Run(ReferenceImage photo, bool first_in_bf16) {
    ReferenceOutput output;
    values_[0] = std::move(photo);
    for (const GraphOp& op : graph_.ops) {
      const bool first = &op == &graph_.ops.front();
      ReferenceImage& y = values_[op.output];
      y = RunOp(op, first && first_in_bf16);
      const GraphValue& value = graph_.values[op.output];
      float& largest = output.largest[value.name];
      for (float each : y.values) largest = std::max(largest, std::abs(each));
      if (HasStep(op.output) && op.kind != GraphOp::Kind::kMaxPool) {
        const float step = quantization_.steps.at(value.name);
        for (float& each : y.values) {
          each = std::clamp(std::nearbyint(each / step), value.is_signed ? -128.0F : 0.0F,
                            value.is_signed ? 127.0F : 255.0F) *
                 step;
        }
      }
      for (int dead : op.dead_after) values_[dead] = {};
    }
    const ReferenceImage& last = values_[graph_.output];
    const size_t pixels = static_cast<size_t>(last.height) * last.width;
    for (int c = 0; c < last.channels; ++c) {
      double sum = 0;
      for (size_t i = 0; i < pixels; ++i) sum += last.values[c * pixels + i];
      output.embedding.push_back(static_cast<float>(sum / static_cast<double>(pixels)));
    }
    const std::vector<float> weight = source_("fc.weight");
    output.logits = source_("fc.bias");
    for (size_t i = 0; i < output.logits.size(); ++i) {
      for (size_t c = 0; c < output.embedding.size(); ++c) {
        output.logits[i] += weight[i * output.embedding.size() + c] * output.embedding[c];
      }
    }
    return output;
  }

 private:
  bool HasStep(int value) const {
    return value != graph_.output && quantization_.steps.contains(graph_.values[value].name);
  }

  ReferenceImage RunOp(const GraphOp& op, bool in_bf16) const {
    switch (op.kind) {
      case GraphOp::Kind::kMaxPool:
        return Pool(op, 2, [](const ReferenceImage& x, int c, int y0, int x0) {
          return std::max({x.Get(c, y0, x0), x.Get(c, y0, x0 + 1), x.Get(c, y0 + 1, x0),
                           x.Get(c, y0 + 1, x0 + 1)});
        });
      case GraphOp::Kind::kAveragePool:
        return Pool(op, 1, [](const ReferenceImage& x, int c, int y0, int x0) {
          float sum = 0;
          for (int i = 0; i < 9; ++i) sum += x.Get(c, y0 + i / 3 - 1, x0 + i % 3 - 1);
          return sum / 9;
        });
      case GraphOp::Kind::kAdd: {
        ReferenceImage sum = Part(op.inputs[0]);
        const ReferenceImage other = Part(op.inputs[1]);
        for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += other.values[i];
        return sum;
      }
      case GraphOp::Kind::kConv:
        break;
    }
    return Conv(op, in_bf16);
  }

  ReferenceImage Part(const GraphInput& input) const {
    const ReferenceImage& x = values_[input.value];
    ReferenceImage part(input.channels, x.height, x.width);
    const auto begin = x.values.begin() + int64_t{input.first_channel} * x.height * x.width;
    std::copy(begin, begin + static_cast<int64_t>(part.values.size()), part.values.begin());
    return part;
  }

  // Halves the size: rounding up (1) or down (2).
  template <typename Function>
  ReferenceImage Pool(const GraphOp& op, int size, Function function) const {
    const ReferenceImage from = Part(op.inputs.front());
    const int up = size == 1 ? 1 : 0;
    ReferenceImage to(from.channels, (from.height + up) / 2, (from.width + up) / 2);
    for (int c = 0; c < to.channels; ++c) {
      for (int y = 0; y < to.height; ++y) {
        for (int x = 0; x < to.width; ++x) to.at(c, y, x) = function(from, c, 2 * y, 2 * x);
      }
    }
    return to;
  }

  // What one weight of each output channel is worth, and the weights.
  FoldedConv RealWeights(const GraphOp& op, bool in_bf16) const {
    const auto int8 = quantization_.convs.find(op.conv.conv);
    if (int8 != quantization_.convs.end()) {
      return Dequantize(op.conv, int8->second, InputSteps(graph_, op, quantization_.steps, input_));
    }
    FoldedConv conv = FoldBatchNorm(op.conv, source_);
    if (in_bf16) {
      for (float& weight : conv.weight) weight = RoundToBf16(weight);
    }
    return conv;
  }

  ReferenceImage Conv(const GraphOp& op, bool in_bf16) const {
    ReferenceImage in(op.conv.in_channels, 0, 0);
    for (const GraphInput& input : op.inputs) {
      const ReferenceImage part = Part(input);
      in.height = part.height;
      in.width = part.width;
      in.values.insert(in.values.end(), part.values.begin(), part.values.end());
    }
    const FoldedConv conv = RealWeights(op, in_bf16);
    const int stride = op.conv.stride;
    const int pad = op.conv.kernel / 2;
    const int group_inputs = op.conv.in_channels / op.conv.groups;
    const int group_outputs = op.conv.out_channels / op.conv.groups;
    ReferenceImage out(op.conv.out_channels, (in.height + stride - 1) / stride,
                       (in.width + stride - 1) / stride);
    std::vector<double> sums(static_cast<size_t>(out.height) * out.width);
    for (int o = 0; o < out.channels; ++o) {
      std::fill(sums.begin(), sums.end(), 0);
      const float* weight =
          &conv.weight[static_cast<size_t>(o) * group_inputs * op.conv.kernel * op.conv.kernel];
      for (int i = 0; i < group_inputs; ++i) {
        const int c = o / group_outputs * group_inputs + i;
        for (int row = -pad; row <= pad; ++row) {
          for (int column = -pad; column <= pad; ++column, ++weight) {
            size_t at = 0;
            for (int y = 0; y < out.height; ++y) {
              for (int x = 0; x < out.width; ++x) {
                sums[at++] += double{*weight} * in.Get(c, y * stride + row, x * stride + column);
              }
            }
          }
        }
      }
      for (int y = 0; y < out.height; ++y) {
        for (int x = 0; x < out.width; ++x) {
          auto value =
              static_cast<float>(sums[static_cast<size_t>(y) * out.width + x] + conv.bias[o]);
          if (op.residual >= 0) value += values_[op.residual].Get(o, y, x);
          out.at(o, y, x) = op.relu ? std::max(value, 0.0F) : value;
        }
      }
    }
    return out;
  }

  const InputSpec input_;
  const TensorSource source_;
  const Quantization& quantization_;
  const Graph graph_;
  std::vector<ReferenceImage> values_;
};

}  // namespace

ReferenceOutput RunInt8Reference(const NetworkLayout& layout, TensorSource source,
                                 const Quantization& quantization, const InputSpec& input,
                                 const std::vector<uint8_t>& photo, bool first_in_bf16) {
  first_in_bf16 = first_in_bf16 && !quantization.convs.contains(layout.stem.front().conv);
  return Runner(layout, source, quantization, input)
      .Run(Normalized(photo, input, first_in_bf16), first_in_bf16);
}

Quantization QuantizeMinMax(const NetworkLayout& layout, TensorSource source,
                            const InputSpec& input, const std::vector<uint8_t>& photo) {
  std::map<std::string, float> steps;
  const ReferenceOutput plain =
      RunInt8Reference(layout, source, Quantization(), input, photo, /*first_in_bf16=*/false);
  const Graph graph = MakeGraph(layout);
  for (size_t i = 1; i < graph.values.size(); ++i) {
    const GraphValue& value = graph.values[i];
    if (static_cast<int>(i) == graph.output) continue;
    const float largest = plain.largest.at(value.name);
    steps[value.name] = (largest > 0 ? largest : 1) / (value.is_signed ? 127.0F : 255.0F);
  }
  return RoundNetwork(layout, source, input, std::move(steps));
}

}  // namespace dla
