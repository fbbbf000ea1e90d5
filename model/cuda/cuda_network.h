// A network on one CUDA device.
#pragma once

#include <c10/cuda/CUDAStream.h>

#include <map>
#include <memory>
#include <mutex>

#include "model/aten_network.h"
#include "model/cuda/pixel_kernels.h"
#include "model/gpu/runtime.h"

namespace dla::cuda {

// Weights, shared by all replicas.
class CudaNetwork final : public gpu::DeviceNetwork {
 public:
  // Throws c10::Error.
  CudaNetwork(const gpu::DeviceInfo& device, const NetworkLayout& layout, TensorSource source,
              const InputSpec& input, at::ScalarType dtype,
              std::shared_ptr<const PixelKernels> kernels);

  const gpu::DeviceInfo& device() const override { return device_; }
  absl::StatusOr<std::unique_ptr<gpu::DeviceReplica>> MakeReplica() override;

 private:
  friend class CudaReplica;
  friend class CudaLane;

  const gpu::DeviceInfo device_;
  const InputSpec input_;
  const NormalizeFactors factors_;
  const at::ScalarType dtype_;
  const int num_classes_;
  const int embedding_size_;
  const std::shared_ptr<const PixelKernels> kernels_;
  const AtenNetwork network_;
};

// One input tensor, one stream that computes, and a graph for each step. Graphs share their memory,
// which is safe since they run one after the other on that stream.
class CudaReplica final : public gpu::DeviceReplica {
 public:
  explicit CudaReplica(const CudaNetwork& network);
  ~CudaReplica() override;

  absl::Status AddStep(int photos) override;
  absl::StatusOr<std::unique_ptr<gpu::Lane>> MakeLane() override;

 private:
  friend class CudaLane;
  struct Graph;

  void Capture(int photos);

  const CudaNetwork& network_;
  const c10::cuda::CUDAStream stream_;
  at::Tensor input_;  // [largest step, kInputChannels, height, width]
  std::map<int, std::unique_ptr<Graph>> graphs_;

  // Held while a batch is put on the stream, not while it runs: the order there is that of the
  // batches.
  std::mutex mutex_;
};

}  // namespace dla::cuda
