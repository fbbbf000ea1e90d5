#include "model/gpu/pixel_pool.h"

#include <functional>
#include <utility>

namespace dla::gpu {

std::shared_ptr<PixelMemory> PixelPool::Make(Runtime& runtime, size_t block_bytes, int blocks) {
  auto slab = runtime.AllocatePinned(block_bytes * blocks);
  if (!slab.ok()) return nullptr;
  return std::shared_ptr<PixelMemory>(new PixelPool(*std::move(slab), block_bytes, blocks));
}

PixelPool::PixelPool(std::shared_ptr<void> slab, size_t block_bytes, int blocks)
    : slab_(std::move(slab)), block_bytes_(block_bytes), slab_bytes_(block_bytes * blocks) {
  free_.reserve(blocks);  // so that Free allocates nothing
  for (int i = blocks; i-- > 0;) free_.push_back(static_cast<char*>(slab_.get()) + i * block_bytes);
}

void* PixelPool::Allocate(size_t bytes) {
  if (bytes != block_bytes_) return nullptr;
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return nullptr;
  char* const block = free_.back();
  free_.pop_back();
  return block;
}

bool PixelPool::Free(void* memory) {
  auto* const block = static_cast<char*>(memory);
  auto* const begin = static_cast<char*>(slab_.get());
  const std::less<char*> before;
  if (before(block, begin) || !before(block, begin + slab_bytes_)) return false;
  const std::lock_guard lock(mutex_);
  free_.push_back(block);
  return true;
}

}  // namespace dla::gpu
