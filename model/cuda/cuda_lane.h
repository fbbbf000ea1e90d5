// Buffers and streams of one batch on its way to a CUDA device and back:
//
//   copies   |photo photo photo|                     |results|
//   compute                    |normalise|graph|pack|
//
// The compute stream is the replica's. While it works on this lane's batch, another lane copies.
#pragma once

#include <array>
#include <map>
#include <memory>

#include "model/cuda/cuda_network.h"

namespace dla::cuda {

class CudaLane final : public gpu::Lane {
 public:
  // Throws c10::Error.
  explicit CudaLane(CudaReplica& replica);
  ~CudaLane() override;

  // To be called once, first.
  absl::Status Allocate();

  absl::Status CopyIn(int row, const PhotoInput& photo) override;
  absl::Status Launch(int step) override;
  absl::StatusOr<gpu::Results> Wait() override;

 private:
  enum Event { kCopyInBegan, kCopiedIn, kComputeBegan, kComputed, kCopiedOut, kEvents };

  // Where the results of one batch lie, in a buffer of the device and one of the host alike.
  struct Places {
    int64_t logits, embeddings, top_indices, top_probabilities, bytes;
  };
  Places PlacesOf(int photos) const;

  absl::Status Record(Event event, cudaStream_t stream);
  absl::Status WaitFor(Event event, cudaStream_t stream);
  absl::Status CopyNormalizedIn(int row, const float* values);
  absl::Status Compute(int step);
  float Seconds(Event from, Event to) const;

  CudaReplica& replica_;
  const CudaNetwork& network_;
  const c10::cuda::CUDAStream copies_;
  const int max_photos_;
  const int64_t photo_bytes_;
  const int top_k_;

  std::array<cudaEvent_t, kEvents> events_{};
  at::Tensor pixels_;   // uint8 [photos, height, width, 3], on the device
  at::Tensor results_;  // bytes, on the device
  std::unique_ptr<char, void (*)(char*)> host_results_;  // pinned
  std::map<int, at::Tensor> normalized_;                 // by row: photos that came normalised
  bool began_ = false;                                   // a copy of this batch was
  int launched_ = 0;                                     // the step, if all of the launch was begun
};

}  // namespace dla::cuda
