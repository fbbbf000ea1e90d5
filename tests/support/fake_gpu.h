// Cards without a card: they keep the contracts of model/gpu/runtime.h, hold their callers to
// theirs, and fail when told to.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "model/gpu/runtime.h"

namespace dla::testing {

// What a card computes for so many photos: logits [n, classes], embeddings [n, features].
using FakeCompute =
    std::function<void(absl::Span<const PhotoInput> photos, float* logits, float* embeddings)>;

// The logit of class c is 10 where c is the photo's first byte (or value), else 0; the embedding is
// that byte, then zeros.
FakeCompute FirstByteCompute(int classes, int features);

// Faults and counts of one card. Thread-safe.
struct FakeCard {
  std::atomic<int> largest_step = 1 << 20;  // larger ones do not fit its memory
  std::atomic<bool> lost = false;           // everything fails with UNAVAILABLE
  std::atomic<bool> no_memory = false;      // launches fail with RESOURCE_EXHAUSTED
  std::atomic<bool> copies_fail = false;    // the second photo of a batch
  std::atomic<int> running = 0;             // batches between CopyIn and Wait
  std::atomic<int> most_running = 0;
  std::atomic<int> photos_held = 0;  // that Wait has not let go
  std::function<void()> on_wait;     // before Wait returns; may block

  std::vector<int> launches() const;  // the step of each
  void CountLaunch(int step);

 private:
  mutable std::mutex mutex_;
  std::vector<int> launches_;
};

class FakeRuntime : public gpu::Runtime {
 public:
  // Makes the compute function of a network that is loaded.
  using MakeCompute = std::function<FakeCompute(const NetworkLayout& layout, TensorSource source,
                                                const InputSpec& input)>;

  // Without `make`: FirstByteCompute.
  explicit FakeRuntime(int cards, MakeCompute make = nullptr);

  const std::vector<gpu::DeviceInfo>& devices() const override { return devices_; }
  absl::StatusOr<std::unique_ptr<gpu::DeviceNetwork>> Load(int device, const NetworkLayout& layout,
                                                           TensorSource source,
                                                           const InputSpec& input,
                                                           gpu::Element element) override;
  absl::StatusOr<std::shared_ptr<void>> AllocatePinned(size_t bytes) override;

  FakeCard& card(int index) { return *cards_[index]; }
  // Whether it lies in memory that AllocatePinned gave and that is still held.
  bool IsPinned(const void* memory) const;
  std::atomic<bool> no_pinned_memory = false;

 private:
  const MakeCompute make_;
  std::vector<gpu::DeviceInfo> devices_;
  std::vector<std::unique_ptr<FakeCard>> cards_;

  struct Slabs {
    std::mutex mutex;
    std::map<const char*, size_t> bytes;
  };
  const std::shared_ptr<Slabs> slabs_ = std::make_shared<Slabs>();
};

}  // namespace dla::testing
