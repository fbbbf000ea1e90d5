// Blocks of pinned memory for decoded photos, so that decoding writes where the card reads.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "model/gpu/runtime.h"
#include "model/pixel_memory.h"

namespace dla::gpu {

// Each block holds one photo. When all are taken the heap serves, which costs the driver one more
// copy. Thread-safe.
class PixelPool final : public PixelMemory {
 public:
  // Null where there is no such memory.
  static std::shared_ptr<PixelMemory> Make(Runtime& runtime, size_t block_bytes, int blocks);

  void* Allocate(size_t bytes) override;
  bool Free(void* memory) override;

 private:
  PixelPool(std::shared_ptr<void> slab, size_t block_bytes, int blocks);

  const std::shared_ptr<void> slab_;
  const size_t block_bytes_;
  const size_t slab_bytes_;

  std::mutex mutex_;
  std::vector<char*> free_;  // guarded by mutex_
};

}  // namespace dla::gpu
