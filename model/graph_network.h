// A DLA network that computes in float32, operation by operation, what an int8 network would: the
// same whole numbers, rounded and saturated alike. Slow; it is what int8 is tested and judged by.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "model/folded_conv.h"
#include "model/graph.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/network.h"
#include "model/normalize.h"
#include "model/quantization.h"

namespace dla {

// Tensors are float32, [n, channels, height, width], channels-last. What has a step is a multiple
// of it: q x step for the whole number q of quantization.h.
struct ConvTensors {
  at::Tensor weight;
  at::Tensor bias;
};

ConvTensors MakeConvTensors(const FoldedConv& conv);

// By a value's number; undefined where it is not yet, or no longer, needed.
using GraphTensors = std::vector<at::Tensor>;

// A convolution's inputs, joined.
at::Tensor JoinInputs(const GraphOp& op, const GraphTensors& values);

// A convolution of joined inputs, before residual and ReLU.
at::Tensor Convolve(const GraphOp& op, const at::Tensor& input, const ConvTensors& conv);

// What `op` puts out, before it is rounded. `conv`: of a convolution.
at::Tensor RunOp(const GraphOp& op, const GraphTensors& values, const ConvTensors* conv);

// To the nearest multiple of `step`, ties to even, at most 255 (signed: +-127) of them. Overwrites.
void RoundTo(at::Tensor& x, float step, bool is_signed);

// Pooled features: [n, channels].
at::Tensor PoolFeatures(const at::Tensor& output);

class GraphNetwork final : public Network {
 public:
  // Without `quantization`, a network in plain float32. `source` gives the weights of what the
  // quantization leaves out. Throws c10::Error, as all of this class.
  GraphNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
               const Quantization* quantization);

  void Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const override;

  const Graph& graph() const { return graph_; }
  at::Tensor MakeInput(absl::Span<const PhotoInput> photos) const;
  // [n, features] to [n, num_classes]
  at::Tensor Classify(const at::Tensor& features) const;
  // Of the operation of that number.
  const ConvTensors& conv(size_t op) const { return convs_[op]; }

 private:
  const InputSpec input_;
  const Normalizer normalizer_;
  const Graph graph_;
  std::vector<ConvTensors> convs_;  // for each operation, undefined where it is no convolution
  std::map<std::string, float> steps_;
  at::Tensor fc_weight_;
  at::Tensor fc_bias_;
};

}  // namespace dla
