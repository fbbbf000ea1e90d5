#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>

#include <optional>
#include <utility>

#include "model/conv.h"

namespace dla {
namespace {

class ReferenceConv final : public FusedConv {
 public:
  ReferenceConv(const ConvWeights& weights, at::ScalarType dtype)
      : weight_(weights.weight.to(dtype, /*non_blocking=*/false, /*copy=*/true)),
        stride_(weights.stride),
        groups_(weights.groups) {
    if (weights.bias.defined())
      bias_ = weights.bias.to(dtype, /*non_blocking=*/false, /*copy=*/true);
  }

  at::Tensor Run(const at::Tensor& x, Activation activation) const override {
    at::Tensor y = at::conv2d(x, weight_, bias_, stride_, /*padding=*/weight_.size(2) / 2,
                              /*dilation=*/1, groups_);
    return activation == Activation::kRelu ? y.relu_() : y;
  }

  at::Tensor RunAdd(const at::Tensor& x, at::Tensor residual,
                    Activation activation) const override {
    at::Tensor y = Run(x, Activation::kNone).add_(residual);
    return activation == Activation::kRelu ? y.relu_() : y;
  }

 private:
  at::Tensor weight_;
  std::optional<at::Tensor> bias_;
  int64_t stride_;
  int64_t groups_;
};

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(at::ScalarType dtype) : dtype_(dtype) {}

  at::ScalarType dtype() const override { return dtype_; }
  at::MemoryFormat memory_format() const override { return at::MemoryFormat::Contiguous; }

  std::unique_ptr<const FusedConv> Pack(const ConvWeights& weights, MapSize) const override {
    return std::make_unique<ReferenceConv>(weights, dtype_);
  }

  at::Tensor MaxPool2x2(const at::Tensor& x) const override { return at::max_pool2d(x, 2, 2); }

 private:
  const at::ScalarType dtype_;
};

}  // namespace

std::unique_ptr<const Backend> MakeReferenceBackend(at::ScalarType dtype) {
  return std::make_unique<ReferenceBackend>(dtype);
}

}  // namespace dla
