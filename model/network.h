// A DLA network that runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "model/conv.h"
#include "model/layout.h"

namespace dla {

// Gives the tensor of a name in the checkpoint: float32, of the shape that the layout lists. The
// result may be a view of memory that lives as long as the source.
using TensorSource = absl::FunctionRef<at::Tensor(const std::string& name)>;

// Immutable: threads share it.
class Network {
 public:
  struct Output {
    at::Tensor logits;     // [n, num_classes], float32
    at::Tensor embedding;  // [n, embedding_size], float32: pooled features before the classifier
  };

  // Folds each BatchNorm into its convolution in float32, casts and packs; nothing of the source's
  // memory is kept. `size` is that of the photos to come, see Backend::Pack. Throws c10::Error.
  Network(const NetworkLayout& layout, TensorSource source, ImageSize size,
          std::unique_ptr<const Backend> backend);
  ~Network();

  const Backend& backend() const { return *backend_; }

  // x: [n, 3, height, width], normalised, in the backend's dtype and memory format, of a size that
  // CheckInputSize accepts. To be called under at::InferenceMode. Throws c10::Error. Thread-safe.
  Output Forward(at::Tensor x) const;

 private:
  class Tree;

  std::unique_ptr<const Backend> backend_;
  std::vector<std::unique_ptr<const FusedConv>> stem_;
  std::vector<std::unique_ptr<const Tree>> trees_;
  at::Tensor fc_weight_;  // [num_classes, embedding_size], float32
  at::Tensor fc_bias_;    // [num_classes]
};

}  // namespace dla
