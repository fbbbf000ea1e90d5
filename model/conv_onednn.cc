// The operations that TorchInductor calls for frozen models. They have no C++ functions, only
// dispatcher schemas: torch/csrc's native/mkldnn/RegisterMkldnnOpContextClass.cpp.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/maximum.h>

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "model/conv.h"

namespace dla {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;

// weight, padding, stride, dilation, groups, input size
using PackOp = at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                          int64_t, at::OptionalIntArrayRef);
// x, weight, bias, padding, stride, dilation, groups, unary, its scalars, its algorithm
using ConvOp = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                          at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                          std::string_view, Scalars, std::optional<std::string_view>);
// residual, x, weight, bias, padding, stride, dilation, groups, binary, alpha, unary, ...
using AddConvOp = at::Tensor&(at::Tensor&, const at::Tensor&, const at::Tensor&,
                              const std::optional<at::Tensor>&, at::IntArrayRef, at::IntArrayRef,
                              at::IntArrayRef, int64_t, std::string_view, std::optional<at::Scalar>,
                              std::optional<std::string_view>, Scalars,
                              std::optional<std::string_view>);

template <typename Signature>
c10::TypedOperatorHandle<Signature> FindOp(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

struct Ops {
  c10::TypedOperatorHandle<PackOp> pack = FindOp<PackOp>("mkldnn::_reorder_convolution_weight", "");
  c10::TypedOperatorHandle<ConvOp> conv = FindOp<ConvOp>("mkldnn::_convolution_pointwise", "");
  c10::TypedOperatorHandle<AddConvOp> add_conv =
      FindOp<AddConvOp>("mkldnn::_convolution_pointwise_", "binary");
};

constexpr std::array<int64_t, 2> kDilation = {1, 1};

class OneDnnConv final : public FusedConv {
 public:
  OneDnnConv(const Ops& ops, const ConvWeights& weights, MapSize size, at::ScalarType dtype)
      : ops_(ops), groups_(weights.groups) {
    const int64_t kernel = weights.weight.size(2);
    padding_ = {kernel / 2, kernel / 2};
    stride_ = {weights.stride, weights.stride};
    // oneDNN chooses the layout by the input's size, too, and converts at every call what is in
    // another. One photo's choice is also right, or nearly so, for a batch.
    const std::array<int64_t, 4> input = {1, weights.weight.size(1) * groups_, size.height,
                                          size.width};
    weight_ = ops_.pack.call(weights.weight.to(dtype), padding_, stride_, kDilation, groups_,
                             at::IntArrayRef(input));
    if (weights.bias.defined())
      bias_ = weights.bias.to(dtype, /*non_blocking=*/false, /*copy=*/true);
  }

  at::Tensor Run(const at::Tensor& x, Activation activation) const override {
    return ops_.conv.call(x, weight_, bias_, padding_, stride_, kDilation, groups_,
                          activation == Activation::kRelu ? "relu" : "none", Scalars(), "");
  }

  at::Tensor RunAdd(const at::Tensor& x, at::Tensor residual,
                    Activation activation) const override {
    const auto unary =
        activation == Activation::kRelu ? std::optional<std::string_view>("relu") : std::nullopt;
    ops_.add_conv.call(residual, x, weight_, bias_, padding_, stride_, kDilation, groups_, "add",
                       std::nullopt, unary, Scalars(), std::nullopt);
    return residual;
  }

 private:
  const Ops& ops_;
  const int64_t groups_;
  std::array<int64_t, 2> padding_;
  std::array<int64_t, 2> stride_;
  at::Tensor weight_;  // in oneDNN's own layout
  std::optional<at::Tensor> bias_;
};

class OneDnnBackend final : public Backend {
 public:
  explicit OneDnnBackend(at::ScalarType dtype) : dtype_(dtype) {}

  at::ScalarType dtype() const override { return dtype_; }
  at::MemoryFormat memory_format() const override { return at::MemoryFormat::ChannelsLast; }

  std::unique_ptr<const FusedConv> Pack(const ConvWeights& weights, MapSize size) const override {
    static const Ops ops;
    return std::make_unique<OneDnnConv>(ops, weights, size, dtype_);
  }

  // at::max_pool2d also computes indices, which takes three times as long.
  at::Tensor MaxPool2x2(const at::Tensor& x) const override {
    auto corner = [&x](int64_t row, int64_t column) {
      return x.slice(2, row, std::nullopt, 2).slice(3, column, std::nullopt, 2);
    };
    at::Tensor top = at::maximum(corner(0, 0), corner(0, 1));
    at::maximum_out(top, top, corner(1, 0));
    at::maximum_out(top, top, corner(1, 1));
    return top;
  }

 private:
  const at::ScalarType dtype_;
};

}  // namespace

std::unique_ptr<const Backend> MakeOneDnnBackend(at::ScalarType dtype) {
  return std::make_unique<OneDnnBackend>(dtype);
}

}  // namespace dla
