#include "model/graph_network.h"

#include <ATen/ops/add.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mean.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstring>

#include "model/input_tensor.h"
#include "model/int8_conv.h"

namespace dla {
namespace {

at::Tensor ToTensor(const std::vector<float>& values, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor;
}

at::Tensor Part(const GraphInput& input, const GraphTensors& values) {
  const at::Tensor& x = values[input.value];
  return x.size(1) == input.channels ? x : x.narrow(1, input.first_channel, input.channels);
}

}  // namespace

ConvTensors MakeConvTensors(const FoldedConv& conv) {
  return {ToTensor(conv.weight,
                   {conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel}),
          ToTensor(conv.bias, {conv.out_channels})};
}

at::Tensor JoinInputs(const GraphOp& op, const GraphTensors& values) {
  if (op.inputs.size() == 1) return Part(op.inputs.front(), values);
  std::vector<at::Tensor> parts;
  for (const GraphInput& input : op.inputs) parts.push_back(Part(input, values));
  return at::cat(parts, /*dim=*/1);
}

at::Tensor Convolve(const GraphOp& op, const at::Tensor& input, const ConvTensors& conv) {
  return at::conv2d(input, conv.weight, conv.bias, op.conv.stride, /*padding=*/op.conv.kernel / 2,
                    /*dilation=*/1, op.conv.groups);
}

at::Tensor RunOp(const GraphOp& op, const GraphTensors& values, const ConvTensors* conv) {
  switch (op.kind) {
    case GraphOp::Kind::kMaxPool:
      return at::max_pool2d(Part(op.inputs.front(), values), 2, 2);
    case GraphOp::Kind::kAveragePool:
      return at::avg_pool2d(Part(op.inputs.front(), values), 3, 2, 1);
    case GraphOp::Kind::kAdd:
      return at::add(Part(op.inputs[0], values), Part(op.inputs[1], values));
    case GraphOp::Kind::kConv:
      break;
  }
  at::Tensor y = Convolve(op, JoinInputs(op, values), *conv);
  if (op.residual >= 0) y.add_(values[op.residual]);
  return op.relu ? y.relu_() : y;
}

void RoundTo(at::Tensor& x, float step, bool is_signed) {
  x.div_(step).round_().clamp_(is_signed ? -127 : 0, is_signed ? 127 : 255).mul_(step);
}

at::Tensor PoolFeatures(const at::Tensor& output) {
  return at::mean(output, {2, 3}, /*keepdim=*/false, at::kFloat);
}

GraphNetwork::GraphNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                           const Quantization* quantization)
    : input_(input), normalizer_(input), graph_(MakeGraph(layout)) {
  if (quantization != nullptr) steps_ = quantization->steps;
  for (const GraphOp& op : graph_.ops) {
    convs_.emplace_back();
    if (op.kind != GraphOp::Kind::kConv) continue;
    if (quantization != nullptr) {
      if (const auto int8 = quantization->convs.find(op.conv.conv);
          int8 != quantization->convs.end()) {
        convs_.back() = MakeConvTensors(
            Dequantize(op.conv, int8->second, InputSteps(graph_, op, quantization->steps, input)));
        continue;
      }
    }
    convs_.back() = MakeConvTensors(FoldBatchNorm(op.conv, source));
  }
  fc_weight_ = ToTensor(source("fc.weight"), {layout.num_classes, layout.embedding_size});
  fc_bias_ = ToTensor(source("fc.bias"), {layout.num_classes});
}

at::Tensor GraphNetwork::MakeInput(absl::Span<const PhotoInput> photos) const {
  return MakeInputTensor(photos, input_, normalizer_, at::kFloat);
}

at::Tensor GraphNetwork::Classify(const at::Tensor& features) const {
  return at::linear(features, fc_weight_, fc_bias_);
}

void GraphNetwork::Run(absl::Span<const PhotoInput> photos, float* logits,
                       float* embeddings) const {
  const c10::InferenceMode no_gradients;
  GraphTensors values(graph_.values.size());
  values[0] = MakeInput(photos);
  for (size_t i = 0; i < graph_.ops.size(); ++i) {
    const GraphOp& op = graph_.ops[i];
    at::Tensor& y = values[op.output];
    y = RunOp(op, values, &convs_[i]);
    const GraphValue& value = graph_.values[op.output];
    // What was rounded stays so through max pooling.
    const auto step = steps_.find(value.name);
    if (step != steps_.end() && op.kind != GraphOp::Kind::kMaxPool) {
      RoundTo(y, step->second, value.is_signed);
    }
    for (int dead : op.dead_after) values[dead].reset();
  }
  auto copy = [](const at::Tensor& from, float* to) {
    std::memcpy(to, from.contiguous().const_data_ptr<float>(), from.numel() * sizeof(float));
  };
  const at::Tensor features = PoolFeatures(values[graph_.output]);
  copy(features, embeddings);
  copy(Classify(features), logits);
}

}  // namespace dla
