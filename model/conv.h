// How the operations that take a network's time run on a device. The reference is plain ATen; the
// others are tested against it. The CUDA one is in model/cuda.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

namespace dla {

// A convolution with padding kernel / 2, after its BatchNorm was folded into it. float32.
struct ConvWeights {
  at::Tensor weight;  // [out_channels, in_channels / groups, kernel, kernel]
  at::Tensor bias;    // [out_channels]; undefined for none
  int stride = 1;
  int groups = 1;
};

// Of an image between two layers.
struct MapSize {
  int64_t height;
  int64_t width;
};

enum class Activation { kNone, kRelu };

// A convolution with its weights packed for one backend. Tensors are [n, channels, height, width]
// in the backend's dtype and memory format. Throws c10::Error. Immutable, thread-safe.
class FusedConv {
 public:
  virtual ~FusedConv() = default;

  // activation(conv(x) + bias)
  virtual at::Tensor Run(const at::Tensor& x, Activation activation) const = 0;

  // activation(conv(x) + bias + residual). Consumes `residual`: its memory may hold the result, so
  // `x` is another tensor.
  virtual at::Tensor RunAdd(const at::Tensor& x, at::Tensor residual,
                            Activation activation) const = 0;
};

// Immutable, thread-safe.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual at::ScalarType dtype() const = 0;
  virtual at::MemoryFormat memory_format() const = 0;

  // Casts and packs; nothing of `weights` is kept. Packs for inputs of `size`; others give the same
  // results but may take longer.
  virtual std::unique_ptr<const FusedConv> Pack(const ConvWeights& weights, MapSize size) const = 0;

  // Maximum of each 2x2 pixels. Height and width are even.
  virtual at::Tensor MaxPool2x2(const at::Tensor& x) const = 0;

  // [n, c, h, w] -> float32 [n, c].
  virtual at::Tensor GlobalAverage(const at::Tensor& x) const;

  // Whether tensors that a 1x1 convolution reads together should be joined first. Else each goes
  // through its own slice of the weights. Where it joins, RunAdd leaves its residual as it is.
  virtual bool joins() const { return false; }

  // By channels.
  virtual at::Tensor Join(const std::vector<at::Tensor>& parts) const;

  // What the classifier computes with, on the device.
  virtual at::Tensor Place(at::Tensor constant) const { return constant; }
};

// ATen's fused oneDNN operations, channels-last. dtype: kFloat or kBFloat16.
std::unique_ptr<const Backend> MakeOneDnnBackend(at::ScalarType dtype);

// at::conv2d and friends, NCHW, one operation after the other.
std::unique_ptr<const Backend> MakeReferenceBackend(at::ScalarType dtype);

}  // namespace dla
