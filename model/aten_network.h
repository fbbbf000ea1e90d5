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
