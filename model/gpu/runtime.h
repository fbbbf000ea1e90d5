// What the CUDA half of the program offers to the other one. libdla_cuda.so implements it, and the
// tests do, without a card. Nothing here needs CUDA or LibTorch.
//
// A batch on a card:  Lane::CopyIn for each photo -> Lane::Launch -> Lane::Wait
//
// Errors: RESOURCE_EXHAUSTED: the card's memory ran out; what was there before goes on working.
// UNAVAILABLE: the card is lost until the process is started again (memory error, reset, fallen off
// the bus, a kernel that crashed): everything on it fails from now on, other cards go on. INTERNAL:
// anything else. Nothing throws.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/folded_conv.h"
#include "model/gpu/element.h"
#include "model/gpu/jpeg_decoder.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/model.h"
#include "model/photo_input.h"
#include "model/top_k.h"

namespace dla::gpu {

struct DeviceInfo {
  int index = 0;           // as CUDA counts: "cuda:0"
  std::string name;        // "NVIDIA H100 80GB HBM3"
  std::string pci_bus_id;  // "0000:18:00.0", which NVML knows it by
  std::string capability;  // "9.0"
  int64_t memory_bytes = 0;
};

// What Lane::Wait gives, in the host's memory, until the lane's next CopyIn. Row i is photo i.
struct Results {
  const float* logits = nullptr;         // [photos, num_classes]
  const float* embeddings = nullptr;     // [photos, embedding_size]
  int top_k = 0;                         // min(kTopClasses, num_classes)
  const int32_t* top_indices = nullptr;  // [photos, top_k], see TopK
  const float* top_probabilities = nullptr;
  StageTimes times;
};

// Classes that the card itself puts in order; whoever wants more has the logits.
inline constexpr int kTopClasses = 16;

// Buffers for one batch, and streams of its own for copying to and from the card. Used by one
// thread at a time.
class Lane {
 public:
  virtual ~Lane() = default;

  // Begins to copy a photo in as row `row` of the next batch. Its memory stays as it is until Wait
  // has returned.
  virtual absl::Status CopyIn(int row, const PhotoInput& photo) = 0;

  // Has the network compute the first `step` rows, a step that was added, once they are there. Rows
  // that were not copied in hold what they held before: their results mean nothing and do no harm.
  virtual absl::Status Launch(int step) = 0;

  // Waits for all that was begun, in case of an error, too.
  virtual absl::StatusOr<Results> Wait() = 0;
};

// The network with memory to compute in, once. Its lanes take turns on it, so that while one's
// batch is computed the others copy theirs.
class DeviceReplica {
 public:
  virtual ~DeviceReplica() = default;

  // Makes ready for batches of so many photos: chooses kernels, runs them, records them as a graph.
  // To be called from large steps to small ones, which then share the memory of the largest, and
  // before MakeLane. Takes seconds.
  virtual absl::Status AddStep(int photos) = 0;

  // For batches of the largest step or less. The replica outlives its lanes.
  virtual absl::StatusOr<std::unique_ptr<Lane>> MakeLane() = 0;
};

// A network's weights on one card.
class DeviceNetwork {
 public:
  virtual ~DeviceNetwork() = default;

  virtual const DeviceInfo& device() const = 0;

  // The network outlives its replicas.
  virtual absl::StatusOr<std::unique_ptr<DeviceReplica>> MakeReplica() = 0;
};

// Thread-safe.
class Runtime {
 public:
  virtual ~Runtime() = default;

  virtual const std::vector<DeviceInfo>& devices() const = 0;  // at least one

  // `device` is an index of devices().
  virtual absl::StatusOr<std::unique_ptr<DeviceNetwork>> Load(int device,
                                                              const NetworkLayout& layout,
                                                              TensorSource source,
                                                              const InputSpec& input,
                                                              Element element) = 0;

  // Decoders of JPEGs on these devices, in turn, for so many threads at a time: one for each way
  // that the cards know. UNIMPLEMENTED: none knows any. NOT_FOUND: the library for it is not
  // installed.
  virtual absl::StatusOr<std::vector<NamedJpegDecoder>> MakeJpegDecoders(
      [[maybe_unused]] const std::vector<int>& devices, [[maybe_unused]] int threads) {
    return absl::UnimplementedError("no decoders");
  }

  // Memory of the host that cards read without a detour. Freed with the last pointer.
  virtual absl::StatusOr<std::shared_ptr<void>> AllocatePinned(size_t bytes) = 0;
};

}  // namespace dla::gpu
