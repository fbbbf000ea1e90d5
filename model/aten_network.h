// A network on LibTorch's operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "model/conv.h"
#include "model/folded_conv.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/network.h"
#include "model/normalize.h"

namespace dla {

class AtenNetwork final : public Network {
 public:
  // Throws c10::Error.
  AtenNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
              std::unique_ptr<const Backend> backend);
  ~AtenNetwork() override;

  // Throws c10::Error.
  void Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const override;

  // What Run gives, on the backend's device.
  struct Features {
    at::Tensor embeddings;  // float32 [n, embedding_size]
    at::Tensor logits;      // float32 [n, num_classes]
  };
  // `x`: normalised photos, [n, channels, height, width] in the backend's dtype and memory format;
  // 3 channels, or as many as the backend pads the first convolution to. Throws c10::Error.
  Features Forward(at::Tensor x) const;

 private:
  class Tree;

  const InputSpec input_;
  const Normalizer normalizer_;
  const std::unique_ptr<const Backend> backend_;
  std::vector<std::unique_ptr<const FusedConv>> stem_;
  std::vector<std::unique_ptr<const Tree>> trees_;
  at::Tensor fc_weight_;  // [num_classes, embedding_size], float32
  at::Tensor fc_bias_;    // [num_classes]
};

}  // namespace dla
