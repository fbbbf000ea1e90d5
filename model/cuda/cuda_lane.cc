#include "model/cuda/cuda_lane.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <utility>

#include "model/cuda/cuda_graph.h"
#include "model/cuda/cudnn_backend.h"
#include "model/cuda/device_status.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

int64_t Aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

void FreePinned(char* memory) { (void)cudaFreeHost(memory); }

}  // namespace

CudaLane::CudaLane(CudaReplica& replica)
    : replica_(replica),
      network_(replica.network_),
      copies_(
          c10::cuda::getStreamFromPool(/*isHighPriority=*/false, replica.stream_.device_index())),
      max_photos_(replica.graphs_.rbegin()->first),
      photo_bytes_(int64_t{3} * network_.input_.height * network_.input_.width),
      top_k_(std::min(gpu::kTopClasses, network_.num_classes_)),
      host_results_(nullptr, FreePinned) {}

CudaLane::~CudaLane() {
  (void)Guarded("freeing a lane", copies_.stream(), [&] {
    const c10::cuda::CUDAGuard device(copies_.device_index());
    (void)DeviceStatus(cudaStreamSynchronize(copies_.stream()), "waiting");
    for (cudaEvent_t event : events_) {
      if (event != nullptr) (void)cudaEventDestroy(event);
    }
    return absl::OkStatus();
  });
}

absl::Status CudaLane::Allocate() {
  const auto bytes = at::TensorOptions(copies_.device()).dtype(at::kByte);
  pixels_ = at::zeros({max_photos_, network_.input_.height, network_.input_.width, 3}, bytes);
  const int64_t result_bytes = PlacesOf(max_photos_).bytes;
  results_ = at::empty({result_bytes}, bytes);
  void* pinned = nullptr;
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaHostAlloc(&pinned, result_bytes, cudaHostAllocDefault),
                                   "allocating pinned memory"));
  host_results_.reset(static_cast<char*>(pinned));
  for (cudaEvent_t& event : events_) {
    // A thread that waits for it sleeps: decoding needs the cores.
    DLA_RETURN_IF_ERROR(
        DeviceStatus(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "making an event"));
  }
  // The zeros were written on another stream.
  return DeviceStatus(cudaDeviceSynchronize(), "clearing a lane");
}

CudaLane::Places CudaLane::PlacesOf(int photos) const {
  Places places{};
  int64_t end = 0;
  auto place = [&](int64_t values) {
    const int64_t begin = end;
    end += Aligned(values * photos * 4);
    return begin;
  };
  places.logits = place(network_.num_classes_);
  places.embeddings = place(network_.embedding_size_);
  places.top_indices = place(top_k_);
  places.top_probabilities = place(top_k_);
  places.bytes = end;
  return places;
}

absl::Status CudaLane::Record(Event event, cudaStream_t stream) {
  return DeviceStatus(cudaEventRecord(events_[event], stream), "recording an event");
}

absl::Status CudaLane::WaitFor(Event event, cudaStream_t stream) {
  return DeviceStatus(cudaStreamWaitEvent(stream, events_[event], 0), "waiting for an event");
}

absl::Status CudaLane::CopyIn(int row, const PhotoInput& photo) {
  return Guarded("copying photos to the device", copies_.stream(), [&]() -> absl::Status {
    const c10::cuda::CUDAGuard device(copies_.device_index());
    if (!began_) {
      began_ = true;
      DLA_RETURN_IF_ERROR(Record(kCopyInBegan, copies_.stream()));
    }
    if (photo.normalized != nullptr) return CopyNormalizedIn(row, photo.normalized);
    return DeviceStatus(
        cudaMemcpyAsync(pixels_.mutable_data_ptr<uint8_t>() + row * photo_bytes_, photo.pixels,
                        photo_bytes_, cudaMemcpyHostToDevice, copies_.stream()),
        "copying photos to the device");
  });
}

// Rare, so simple: the copy has ended when this returns.
absl::Status CudaLane::CopyNormalizedIn(int row, const float* values) {
  const c10::InferenceMode no_gradients;
  const c10::cuda::CUDAStreamGuard stream(copies_);
  // from_blob takes no const; to only reads it.
  const at::Tensor photo = at::from_blob(
      const_cast<float*>(values), {3, network_.input_.height, network_.input_.width}, at::kFloat);
  normalized_[row] = photo.to(at::TensorOptions(copies_.device()).dtype(network_.dtype_));
  return DeviceStatus(cudaStreamSynchronize(copies_.stream()), "copying a photo to the device");
}

absl::Status CudaLane::Launch(int step) {
  return Guarded("running the network", replica_.stream_.stream(), [&]() -> absl::Status {
    const c10::InferenceMode no_gradients;
    const c10::cuda::CUDAStreamGuard stream(replica_.stream_);
    const cudaStream_t copies = copies_.stream();
    DLA_RETURN_IF_ERROR(Record(kCopiedIn, copies));
    {
      const std::lock_guard lock(replica_.mutex_);
      DLA_RETURN_IF_ERROR(Compute(step));
    }
    DLA_RETURN_IF_ERROR(WaitFor(kComputed, copies));
    DLA_RETURN_IF_ERROR(
        DeviceStatus(cudaMemcpyAsync(host_results_.get(), results_.const_data_ptr(),
                                     PlacesOf(step).bytes, cudaMemcpyDeviceToHost, copies),
                     "copying results"));
    DLA_RETURN_IF_ERROR(Record(kCopiedOut, copies));
    launched_ = step;
    return absl::OkStatus();
  });
}

absl::Status CudaLane::Compute(int step) {
  const cudaStream_t stream = replica_.stream_.stream();
  CudaReplica::Graph& graph = *replica_.graphs_.at(step);
  DLA_RETURN_IF_ERROR(WaitFor(kCopiedIn, stream));
  DLA_RETURN_IF_ERROR(Record(kComputeBegan, stream));
  DLA_RETURN_IF_ERROR(network_.kernels_->Normalize(
      pixels_.const_data_ptr<uint8_t>(), step * photo_bytes_ / 3, network_.factors_,
      ElementOf(network_.dtype_), kInputChannels, replica_.input_.mutable_data_ptr(), stream));
  for (const auto& [row, photo] : normalized_) {
    replica_.input_[row].narrow(0, 0, 3).copy_(photo);
  }
  graph.graph.replay();
  const Places places = PlacesOf(step);
  auto* const results = results_.mutable_data_ptr<uint8_t>();
  auto pack = [&](int64_t place, const at::Tensor& from) {
    return DeviceStatus(cudaMemcpyAsync(results + place, from.const_data_ptr(), from.numel() * 4,
                                        cudaMemcpyDeviceToDevice, stream),
                        "packing results");
  };
  DLA_RETURN_IF_ERROR(pack(places.logits, graph.features.logits));
  DLA_RETURN_IF_ERROR(pack(places.embeddings, graph.features.embeddings));
  DLA_RETURN_IF_ERROR(pack(places.top_indices, graph.top_indices));
  DLA_RETURN_IF_ERROR(pack(places.top_probabilities, graph.top_probabilities));
  return Record(kComputed, stream);
}

float CudaLane::Seconds(Event from, Event to) const {
  float milliseconds = 0;
  if (cudaEventElapsedTime(&milliseconds, events_[from], events_[to]) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return milliseconds / 1000;
}

absl::StatusOr<gpu::Results> CudaLane::Wait() {
  const int step = std::exchange(launched_, 0);
  began_ = false;
  gpu::Results results;
  const absl::Status status = Guarded("waiting for the device", copies_.stream(), [&] {
    const c10::cuda::CUDAGuard device(copies_.device_index());
    if (step > 0) {
      // The copies' stream has waited for the computing one.
      return DeviceStatus(cudaEventSynchronize(events_[kCopiedOut]), "running the network");
    }
    // Whatever part of a launch was begun.
    absl::Status waited = DeviceStatus(cudaStreamSynchronize(copies_.stream()), "copying photos");
    waited.Update(
        DeviceStatus(cudaStreamSynchronize(replica_.stream_.stream()), "running the network"));
    return waited;
  });
  normalized_.clear();
  if (!status.ok()) return status;
  if (step == 0) return results;
  const Places places = PlacesOf(step);
  const char* const host = host_results_.get();
  results.logits = reinterpret_cast<const float*>(host + places.logits);
  results.embeddings = reinterpret_cast<const float*>(host + places.embeddings);
  results.top_k = top_k_;
  results.top_indices = reinterpret_cast<const int32_t*>(host + places.top_indices);
  results.top_probabilities = reinterpret_cast<const float*>(host + places.top_probabilities);
  results.times = {.copy_in = Seconds(kCopyInBegan, kCopiedIn),
                   .compute = Seconds(kComputeBegan, kComputed),
                   .copy_out = Seconds(kComputed, kCopiedOut)};
  return results;
}

}  // namespace dla::cuda
