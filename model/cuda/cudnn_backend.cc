#include "model/cuda/cudnn_backend.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/cudnn_convolution.h>
#include <ATen/ops/cudnn_convolution_add_relu.h>
#include <ATen/ops/cudnn_convolution_relu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace dla::cuda {
namespace {

cudaStream_t CurrentStream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
}

void Check(const absl::Status& status) { TORCH_CHECK(status.ok(), status.message()); }

Shape ShapeOf(const at::Tensor& x) {
  const auto size = [&](int dimension) { return static_cast<int>(x.size(dimension)); };
  return {.photos = size(0), .height = size(2), .width = size(3), .channels = size(1)};
}

// Seconds of `work` on the stream, the best of three after a first time that may compile.
float Measure(cudaStream_t stream, const std::function<void()>& work) {
  std::array<cudaEvent_t, 2> events{};
  for (cudaEvent_t& event : events) TORCH_CHECK(cudaEventCreate(&event) == cudaSuccess);
  float best = std::numeric_limits<float>::infinity();
  work();
  for (int i = 0; i < 3; ++i) {
    float milliseconds = 0;
    cudaEventRecord(events[0], stream);
    work();
    cudaEventRecord(events[1], stream);
    TORCH_CHECK(cudaEventSynchronize(events[1]) == cudaSuccess &&
                cudaEventElapsedTime(&milliseconds, events[0], events[1]) == cudaSuccess);
    best = std::min(best, milliseconds / 1000);
  }
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  return best;
}

// Channels, weights padded with zeros to so many inputs.
at::Tensor PadInputs(const at::Tensor& weight, int64_t channels) {
  at::Tensor padded =
      at::zeros({weight.size(0), channels, weight.size(2), weight.size(3)}, weight.options());
  padded.slice(1, 0, weight.size(1)).copy_(weight);
  return padded;
}

class CudnnConv final : public FusedConv {
 public:
  CudnnConv(const ConvWeights& weights, at::ScalarType dtype, int device,
            const PixelKernels& kernels)
      : kernels_(kernels),
        device_(device),
        stride_{weights.stride, weights.stride},
        groups_(weights.groups) {
    at::Tensor weight = weights.weight;
    // The first one.
    if (weight.size(1) == 3 && groups_ == 1) weight = PadInputs(weight, kInputChannels);
    padding_ = {weight.size(2) / 2, weight.size(3) / 2};
    const auto on_device = at::TensorOptions(at::Device(at::kCUDA, static_cast<char>(device)));
    weight_ = weight.to(on_device.dtype(dtype)).contiguous(at::MemoryFormat::ChannelsLast);
    if (weights.bias.defined()) {
      bias_ = weights.bias.to(on_device.dtype(dtype));
      float_bias_ = weights.bias.to(on_device.dtype(at::kFloat));
    }
  }

  at::Tensor Run(const at::Tensor& x, Activation activation) const override {
    if (activation == Activation::kRelu) {
      return Fastest(
          x, 'r', [&] { return FusedRelu(x); }, [&] { return Finished(x, nullptr, true); });
    }
    return bias_.defined() ? Finished(x, nullptr, false) : Plain(x);
  }

  at::Tensor RunAdd(const at::Tensor& x, at::Tensor residual,
                    Activation activation) const override {
    if (activation == Activation::kRelu) {
      return Fastest(
          x, 'a', [&] { return FusedAddRelu(x, residual); },
          [&] { return Finished(x, &residual, true); });
    }
    return Finished(x, &residual, false);
  }

 private:
  using Way = std::function<at::Tensor()>;

  at::Tensor Plain(const at::Tensor& x) const {
    return at::cudnn_convolution(x, weight_, padding_, stride_, kDilation, groups_,
                                 /*benchmark=*/true, /*deterministic=*/false,
                                 /*allow_tf32=*/false);
  }
  at::Tensor FusedRelu(const at::Tensor& x) const {
    return at::cudnn_convolution_relu(x, weight_, bias_, stride_, padding_, kDilation, groups_);
  }
  at::Tensor FusedAddRelu(const at::Tensor& x, const at::Tensor& residual) const {
    return at::cudnn_convolution_add_relu(x, weight_, residual, /*alpha=*/1, bias_, stride_,
                                          padding_, kDilation, groups_);
  }
  // The convolution alone, then one kernel of ours for the rest.
  at::Tensor Finished(const at::Tensor& x, const at::Tensor* residual, bool relu) const {
    at::Tensor y = Plain(x);
    if (!PixelKernels::Takes(ElementOf(y.scalar_type()), ShapeOf(y).channels)) {
      if (bias_.defined()) y.add_(bias_.view({1, -1, 1, 1}));
      if (residual != nullptr) y.add_(*residual);
      return relu ? y.relu_() : y;
    }
    Check(kernels_.FinishConv(y.mutable_data_ptr(), ShapeOf(y), ElementOf(y.scalar_type()),
                              float_bias_.defined() ? float_bias_.const_data_ptr<float>() : nullptr,
                              residual == nullptr ? nullptr : residual->const_data_ptr(), relu,
                              CurrentStream(device_)));
    return y;
  }

  // cuDNN has no fused kernel for some convolutions, and slow ones for others.
  at::Tensor Fastest(const at::Tensor& x, char what, const Way& fused, const Way& finished) const {
    const std::array<int64_t, 4> shape = {what, x.size(0), x.size(2), x.size(3)};
    const std::lock_guard lock(mutex_);
    auto known = fused_.find(shape);
    if (known == fused_.end()) known = fused_.emplace(shape, IsFaster(fused, finished)).first;
    return known->second ? fused() : finished();
  }

  bool IsFaster(const Way& fused, const Way& finished) const {
    const cudaStream_t stream = CurrentStream(device_);
    try {
      return Measure(stream, [&] { (void)fused(); }) <= Measure(stream, [&] { (void)finished(); });
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::AcceleratorError&) {
      throw;  // of the device
    } catch (const c10::Error&) {
      (void)finished();  // cuDNN has none; what this throws is an error
      return false;
    }
  }

  static constexpr std::array<int64_t, 2> kDilation = {1, 1};

  const PixelKernels& kernels_;
  const int device_;
  const std::array<int64_t, 2> stride_;
  std::array<int64_t, 2> padding_;
  const int64_t groups_;
  at::Tensor weight_;
  at::Tensor bias_;        // in the dtype of the weights, as cuDNN takes it; undefined for none
  at::Tensor float_bias_;  // likewise

  mutable std::mutex mutex_;
  mutable std::map<std::array<int64_t, 4>, bool> fused_;  // guarded by mutex_: whether it is faster
};

class CudnnBackend final : public Backend {
 public:
  CudnnBackend(at::ScalarType dtype, int device, const PixelKernels& kernels)
      : dtype_(dtype), device_(device), kernels_(kernels) {}

  at::ScalarType dtype() const override { return dtype_; }
  at::MemoryFormat memory_format() const override { return at::MemoryFormat::ChannelsLast; }

  std::unique_ptr<const FusedConv> Pack(const ConvWeights& weights, MapSize) const override {
    return std::make_unique<CudnnConv>(weights, dtype_, device_, kernels_);
  }

  at::Tensor MaxPool2x2(const at::Tensor& x) const override {
    at::Tensor y = at::empty({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2}, x.options(),
                             at::MemoryFormat::ChannelsLast);
    Check(kernels_.MaxPool2x2(x.const_data_ptr(), ShapeOf(x), element_, y.mutable_data_ptr(),
                              CurrentStream(device_)));
    return y;
  }

  at::Tensor GlobalAverage(const at::Tensor& x) const override {
    at::Tensor y = at::empty({x.size(0), x.size(1)}, x.options().dtype(at::kFloat),
                             at::MemoryFormat::Contiguous);
    Check(kernels_.GlobalAverage(x.const_data_ptr(), ShapeOf(x), element_,
                                 y.mutable_data_ptr<float>(), CurrentStream(device_)));
    return y;
  }

  bool joins() const override { return true; }

  at::Tensor Join(const std::vector<at::Tensor>& tensors) const override {
    std::vector<at::Tensor> dense;  // a Bottle2neck's parts are slices
    std::vector<PixelKernels::Part> parts;
    int64_t width = 0;
    for (const at::Tensor& tensor : tensors) {
      dense.push_back(tensor.contiguous(at::MemoryFormat::ChannelsLast));
      parts.push_back({dense.back().const_data_ptr(), ShapeOf(tensor).channels});
      width += tensor.size(1);
    }
    for (const PixelKernels::Part& part : parts) {
      if (!PixelKernels::Takes(element_, part.channels)) return at::cat(tensors, /*dim=*/1);
    }
    const at::Tensor& x = tensors.front();
    at::Tensor y = at::empty({x.size(0), width, x.size(2), x.size(3)}, x.options(),
                             at::MemoryFormat::ChannelsLast);
    Check(kernels_.Concat(parts, x.size(0) * x.size(2) * x.size(3), element_, y.mutable_data_ptr(),
                          CurrentStream(device_)));
    return y;
  }

  at::Tensor Place(at::Tensor constant) const override {
    return constant.to(at::Device(at::kCUDA, static_cast<char>(device_)));
  }

 private:
  const at::ScalarType dtype_;
  const Element element_ = ElementOf(dtype_);
  const int device_;
  const PixelKernels& kernels_;
};

}  // namespace

Element ElementOf(at::ScalarType dtype) {
  if (dtype == at::kFloat) return Element::kFp32;
  return dtype == at::kHalf ? Element::kFp16 : Element::kBf16;
}

std::unique_ptr<const Backend> MakeCudnnBackend(at::ScalarType dtype, int device,
                                                const PixelKernels& kernels) {
  return std::make_unique<CudnnBackend>(dtype, device, kernels);
}

}  // namespace dla::cuda
