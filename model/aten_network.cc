#include "model/aten_network.h"

#include <ATen/ops/add.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "model/input_tensor.h"

namespace dla {
namespace {

using enum Activation;
using ConvPtr = std::unique_ptr<const FusedConv>;

at::Tensor ToTensor(const std::vector<float>& values, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor;
}

ConvWeights Fold(const ConvLayout& layout, TensorSource source) {
  const FoldedConv conv = FoldBatchNorm(layout, source);
  return {ToTensor(conv.weight,
                   {conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel}),
          ToTensor(conv.bias, {conv.out_channels}), conv.stride, conv.groups};
}

// Makes convolutions from what is the same for all of a network.
struct Builder {
  TensorSource source;
  const Backend& backend;

  ConvPtr Conv(const ConvLayout& layout, MapSize size) const {
    return backend.Pack(Fold(layout, source), size);
  }

  // `more_bias` may be undefined.
  ConvPtr Conv(const ConvLayout& layout, MapSize size, const at::Tensor& more_bias) const {
    ConvWeights weights = Fold(layout, source);
    if (more_bias.defined()) weights.bias.add_(more_bias);
    return backend.Pack(weights, size);
  }
};

// Of what a convolution with padding kernel / 2 puts out.
MapSize Strided(MapSize size, int stride) {
  return {(size.height + stride - 1) / stride, (size.width + stride - 1) / stride};
}

class ResidualBlock {
 public:
  virtual ~ResidualBlock() = default;

  // Consumes the residual as FusedConv::RunAdd does; it may be x itself.
  virtual at::Tensor Run(const at::Tensor& x, at::Tensor residual) const = 0;
};

// Basic and Bottleneck: convolutions in a row.
class ChainBlock final : public ResidualBlock {
 public:
  ChainBlock(const BlockLayout& layout, const Builder& build, MapSize size,
             const at::Tensor& residual_bias) {
    for (const ConvLayout& conv : layout.convs) {
      const bool last = &conv == &layout.convs.back();
      convs_.push_back(build.Conv(conv, size, last ? residual_bias : at::Tensor()));
      size = Strided(size, conv.stride);
    }
  }

  at::Tensor Run(const at::Tensor& x, at::Tensor residual) const override {
    at::Tensor y = convs_.front()->Run(x, kRelu);
    for (size_t i = 1; i + 1 < convs_.size(); ++i) y = convs_[i]->Run(y, kRelu);
    return convs_.back()->RunAdd(y, std::move(residual), kRelu);
  }

 private:
  std::vector<ConvPtr> convs_;
};

// The channels in equal parts: each but the last goes through a convolution, whose output the next
// part is added to; the last joins them as it is. A block with a stride adds nothing up.
class Bottle2neckBlock final : public ResidualBlock {
 public:
  Bottle2neckBlock(const BlockLayout& layout, const Builder& build, MapSize size,
                   const at::Tensor& residual_bias)
      : backend_(build.backend),
        stride_(layout.stride()),
        expand_(build.Conv(layout.convs.front(), size)) {
    for (size_t i = 1; i + 1 < layout.convs.size(); ++i) {
      parts_.push_back(build.Conv(layout.convs[i], size));
    }
    join_ = build.Conv(layout.convs.back(), Strided(size, stride_), residual_bias);
  }

  at::Tensor Run(const at::Tensor& x, at::Tensor residual) const override {
    std::vector<at::Tensor> parts =
        expand_->Run(x, kRelu).chunk(static_cast<int64_t>(parts_.size() + 1), /*dim=*/1);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const bool adds = i > 0 && stride_ == 1;
      parts[i] = parts_[i]->Run(adds ? at::add(parts[i - 1], parts[i]) : parts[i], kRelu);
    }
    if (stride_ > 1) {
      parts.back() = at::avg_pool2d(parts.back(), /*kernel_size=*/3, stride_, /*padding=*/1);
    }
    return join_->RunAdd(backend_.Join(parts), std::move(residual), kRelu);
  }

 private:
  const Backend& backend_;
  const int stride_;
  ConvPtr expand_;
  std::vector<ConvPtr> parts_;
  ConvPtr join_;
};

// `residual_bias`: added to the residual; undefined for none.
std::unique_ptr<const ResidualBlock> MakeBlock(const BlockLayout& layout, const Builder& build,
                                               MapSize size, const at::Tensor& residual_bias = {}) {
  if (layout.kind == Block::kBottle2neck) {
    return std::make_unique<Bottle2neckBlock>(layout, build, size, residual_bias);
  }
  return std::make_unique<ChainBlock>(layout, build, size, residual_bias);
}

// A 1x1 convolution over the concatenation of several tensors, and a ReLU. Unless the backend
// joins, nothing is ever concatenated: each part is convolved with its own slice of the weights and
// added to the sum as soon as it exists, so that its memory is free for what comes next.
class Root {
 public:
  Root(const TreeLayout& layout, const Builder& build, MapSize size) : backend_(build.backend) {
    ConvWeights all = Fold(layout.root, build.source);
    const int64_t width = layout.root.out_channels;
    if (layout.root_shortcut) {
      // conv(x) + x is a convolution, too.
      all.weight.slice(1, 0, width).squeeze(3).squeeze(2).diagonal().add_(1);
    }
    if (backend_.joins()) {
      parts_.push_back(backend_.Pack(all, size));
      return;
    }
    auto slice = [&](int64_t begin, int64_t end) {
      ConvWeights part{all.weight.slice(1, begin, end).contiguous(), {}};
      if (parts_.empty()) part.bias = all.bias;
      return part;
    };
    // In the order of execution: the second block comes last, though it is first in the weights.
    int64_t begin = 2 * width;
    if (layout.joins_input) {
      const int64_t end = all.weight.size(1) - width * layout.subtrees.size();
      parts_.push_back(build.backend.Pack(slice(begin, end), size));
      begin = end;
    }
    for (size_t i = 0; i < layout.subtrees.size(); ++i, begin += width) {
      parts_.push_back(build.backend.Pack(slice(begin, begin + width), size));
    }
    parts_.push_back(build.backend.Pack(slice(width, 2 * width), size));
    parts_.push_back(build.backend.Pack(slice(0, width), size));
  }

  class Sum {
   public:
    explicit Sum(const Root& root) : root_(root) {}

    // In the order of execution.
    void Add(const at::Tensor& part) {
      if (root_.backend_.joins()) {
        joined_.push_back(part);
        return;
      }
      const FusedConv& conv = *root_.parts_[added_++];
      const Activation activation = added_ == root_.parts_.size() ? kRelu : kNone;
      sum_ =
          added_ == 1 ? conv.Run(part, activation) : conv.RunAdd(part, std::move(sum_), activation);
    }

    // After the last part.
    at::Tensor Take() {
      if (!root_.backend_.joins()) return std::move(sum_);
      // The second block and the first one are the last that were added, and the first in the
      // weights.
      std::rotate(joined_.begin(), joined_.end() - 2, joined_.end());
      std::swap(joined_[0], joined_[1]);
      return root_.parts_.front()->Run(root_.backend_.Join(joined_), kRelu);
    }

   private:
    const Root& root_;
    size_t added_ = 0;
    at::Tensor sum_;
    std::vector<at::Tensor> joined_;
  };

 private:
  const Backend& backend_;
  std::vector<ConvPtr> parts_;
};

}  // namespace

class AtenNetwork::Tree {
 public:
  Tree(const TreeLayout& layout, const Builder& build, MapSize size)
      : joins_input_(layout.joins_input), root_(layout, build, Strided(size, layout.stride)) {
    const MapSize pooled = Strided(size, layout.stride);
    for (const TreeLayout& subtree : layout.subtrees) {
      subtrees_.push_back(std::make_unique<Tree>(subtree, build, size));
      size = pooled;
    }
    // The projection's bias joins that of the convolution which adds its result.
    at::Tensor bias;
    if (layout.project) {
      ConvWeights project = Fold(*layout.project, build.source);
      bias = std::exchange(project.bias, at::Tensor());
      project_ = build.backend.Pack(project, pooled);
    }
    first_ = MakeBlock(layout.first, build, size, bias);
    second_ = MakeBlock(layout.second, build, pooled);
  }

  // `pooled` is x max-pooled by the tree's stride; it is consumed.
  at::Tensor Run(at::Tensor x, at::Tensor pooled) const {
    Root::Sum sum(root_);
    if (joins_input_) sum.Add(pooled);
    for (const auto& subtree : subtrees_) {
      x = subtree->Run(std::move(x), std::move(pooled));
      sum.Add(x);
      pooled = x;
    }
    if (project_ != nullptr) pooled = project_->Run(pooled, kNone);
    x = first_->Run(x, std::move(pooled));
    sum.Add(x);
    x = second_->Run(x, x);
    sum.Add(x);
    return sum.Take();
  }

 private:
  const bool joins_input_;
  Root root_;
  std::vector<std::unique_ptr<const Tree>> subtrees_;
  ConvPtr project_;  // null for none
  std::unique_ptr<const ResidualBlock> first_;
  std::unique_ptr<const ResidualBlock> second_;
};

AtenNetwork::AtenNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                         std::unique_ptr<const Backend> backend)
    : input_(input), normalizer_(input), backend_(std::move(backend)) {
  const Builder build{source, *backend_};
  MapSize size{input.height, input.width};
  for (const ConvLayout& conv : layout.stem) {
    stem_.push_back(build.Conv(conv, size));
    size = Strided(size, conv.stride);
  }
  for (const TreeLayout& tree : layout.trees) {
    trees_.push_back(std::make_unique<Tree>(tree, build, size));
    size = Strided(size, tree.stride);
  }
  fc_weight_ =
      backend_->Place(ToTensor(source("fc.weight"), {layout.num_classes, layout.embedding_size}));
  fc_bias_ = backend_->Place(ToTensor(source("fc.bias"), {layout.num_classes}));
}

AtenNetwork::~AtenNetwork() = default;

AtenNetwork::Features AtenNetwork::Forward(at::Tensor x) const {
  const c10::InferenceMode no_gradients;
  for (const auto& conv : stem_) x = conv->Run(x, kRelu);
  for (const auto& tree : trees_) {
    at::Tensor pooled = backend_->MaxPool2x2(x);
    x = tree->Run(std::move(x), std::move(pooled));
  }
  Features features;
  features.embeddings = backend_->GlobalAverage(x);
  features.logits = at::linear(features.embeddings, fc_weight_, fc_bias_);
  return features;
}

void AtenNetwork::Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const {
  const c10::InferenceMode no_gradients;
  const Features features = Forward(MakeInputTensor(photos, input_, normalizer_, backend_->dtype())
                                        .contiguous(backend_->memory_format()));
  auto copy = [](const at::Tensor& from, float* to) {
    std::memcpy(to, from.contiguous().const_data_ptr<float>(), from.numel() * sizeof(float));
  };
  copy(features.embeddings, embeddings);
  copy(features.logits, logits);
}

at::Tensor Backend::GlobalAverage(const at::Tensor& x) const {
  return at::mean(x, {2, 3}, /*keepdim=*/false, at::kFloat);
}

at::Tensor Backend::Join(const std::vector<at::Tensor>& parts) const {
  return at::cat(parts, /*dim=*/1);
}

}  // namespace dla
