#include "model/cuda/cuda_network.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/cuda/cuda_graph.h"
#include "model/cuda/cuda_lane.h"
#include "model/cuda/cudnn_backend.h"
#include "model/cuda/device_status.h"

namespace dla::cuda {

CudaNetwork::CudaNetwork(const gpu::DeviceInfo& device, const NetworkLayout& layout,
                         TensorSource source, const InputSpec& input, at::ScalarType dtype,
                         std::shared_ptr<const PixelKernels> kernels)
    : device_(device),
      input_(input),
      factors_(input),
      dtype_(dtype),
      num_classes_(layout.num_classes),
      embedding_size_(layout.embedding_size),
      kernels_(std::move(kernels)),
      network_(layout, source, input, MakeCudnnBackend(dtype, device.index, *kernels_)) {}

absl::StatusOr<std::unique_ptr<gpu::DeviceReplica>> CudaNetwork::MakeReplica() {
  std::unique_ptr<gpu::DeviceReplica> replica;
  const absl::Status made = Guarded("making a replica", nullptr, [&] {
    const c10::cuda::CUDAGuard device(static_cast<c10::DeviceIndex>(device_.index));
    replica = std::make_unique<CudaReplica>(*this);
    return absl::OkStatus();
  });
  if (!made.ok()) return made;
  return replica;
}

CudaReplica::CudaReplica(const CudaNetwork& network)
    : network_(network),
      stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false,
                                           static_cast<c10::DeviceIndex>(network.device_.index))) {}

CudaReplica::~CudaReplica() {
  (void)Guarded("freeing a replica", stream_.stream(), [&] {
    const c10::cuda::CUDAGuard device(stream_.device_index());
    (void)DeviceStatus(cudaStreamSynchronize(stream_.stream()), "waiting");
    graphs_.clear();
    input_.reset();
    c10::cuda::CUDACachingAllocator::emptyCache();
    return absl::OkStatus();
  });
}

absl::Status CudaReplica::AddStep(int photos) {
  const std::string doing = absl::StrCat("making ready for batches of ", photos);
  absl::Status status = Guarded(doing, stream_.stream(), [&] {
    const c10::InferenceMode no_gradients;
    const c10::cuda::CUDAStreamGuard stream(stream_);
    Capture(photos);
    return absl::OkStatus();
  });
  // What the first, uncaptured passes took is nobody's now.
  status.Update(Guarded(doing, stream_.stream(), [&] {
    const c10::cuda::CUDAGuard device(stream_.device_index());
    if (graphs_.empty()) input_.reset();
    c10::cuda::CUDACachingAllocator::emptyCache();
    return absl::OkStatus();
  }));
  return status;
}

void CudaReplica::Capture(int photos) {
  if (!input_.defined()) {
    // Photos that never came are black.
    input_ = at::zeros({photos, kInputChannels, network_.input_.height, network_.input_.width},
                       at::TensorOptions(stream_.device()).dtype(network_.dtype_))
                 .contiguous(at::MemoryFormat::ChannelsLast);
  }
  auto graph = std::make_unique<Graph>();
  graph->input = input_.narrow(0, 0, photos);
  const int top_k = std::min(gpu::kTopClasses, network_.num_classes_);
  const auto on_device = at::TensorOptions(stream_.device());
  auto run = [&] {
    graph->features = network_.network_.Forward(graph->input);
    graph->top_indices = at::empty({photos, top_k}, on_device.dtype(at::kInt));
    graph->top_probabilities = at::empty({photos, top_k}, on_device.dtype(at::kFloat));
    const absl::Status status = network_.kernels_->TopK(
        graph->features.logits.const_data_ptr<float>(), photos, network_.num_classes_, top_k,
        graph->top_indices.mutable_data_ptr<int32_t>(),
        graph->top_probabilities.mutable_data_ptr<float>(), stream_.stream());
    TORCH_CHECK(status.ok(), status.message());
  };
  // Chooses kernels, loads them, and gives libraries their work space.
  for (int i = 0; i < 2; ++i) run();
  C10_CUDA_CHECK(cudaStreamSynchronize(stream_.stream()));
  // Other threads go on using the device meanwhile.
  if (graphs_.empty()) {
    graph->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  } else {
    graph->graph.capture_begin(graphs_.begin()->second->graph.pool(),
                               cudaStreamCaptureModeThreadLocal);
  }
  try {
    run();
  } catch (...) {
    // A stream that is left capturing is of no use to anybody.
    try {
      graph->graph.capture_end();
    } catch (const c10::Error&) {  // what made it fail is on its way
    }
    throw;
  }
  graph->graph.capture_end();
  // Once, so that what it loads is loaded.
  graph->graph.replay();
  C10_CUDA_CHECK(cudaStreamSynchronize(stream_.stream()));
  graphs_[photos] = std::move(graph);
}

absl::StatusOr<std::unique_ptr<gpu::Lane>> CudaReplica::MakeLane() {
  std::unique_ptr<gpu::Lane> lane;
  const absl::Status made = Guarded("making a lane", stream_.stream(), [&] {
    const c10::cuda::CUDAGuard device(stream_.device_index());
    auto cuda_lane = std::make_unique<CudaLane>(*this);
    absl::Status ready = cuda_lane->Allocate();
    lane = std::move(cuda_lane);
    return ready;
  });
  if (!made.ok()) return made;
  return lane;
}

}  // namespace dla::cuda
