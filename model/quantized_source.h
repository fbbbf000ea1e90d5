// An int8 network's weights in float32, for processors that compute in nothing smaller.
#pragma once

#include <string>
#include <vector>

#include "model/folded_conv.h"
#include "model/graph.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/quantization.h"

namespace dla {

// Gives a TensorSource in which each convolution of the quantization has the weights and bias that
// it computes with, as if its BatchNorm had changed nothing. Activations are then not rounded.
class QuantizedSource {
 public:
  // `quantization` and `source`, which gives all other tensors, must live as long as this does.
  QuantizedSource(const NetworkLayout& layout, const InputSpec& input,
                  const Quantization& quantization, TensorSource source);

  std::vector<float> operator()(const std::string& name) const;

 private:
  const Graph graph_;
  const InputSpec input_;
  const Quantization& quantization_;
  const TensorSource source_;
};

// All convolutions in int8, of float weights and `steps` for all that they read.
Quantization RoundNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                          std::map<std::string, float> steps);

}  // namespace dla
