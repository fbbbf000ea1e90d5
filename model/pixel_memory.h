// Where the pixels of decoded photos lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace dla {

// Memory that a device reads faster than the heap. Thread-safe.
class PixelMemory {
 public:
  virtual ~PixelMemory() = default;

  // Null where there is none left, or none of that size: the heap is taken then.
  virtual void* Allocate(size_t bytes) = 0;
  // What Allocate gave; false for memory that is not its own.
  virtual bool Free(void* memory) = 0;
};

// Takes a vector's memory from a PixelMemory, which it keeps alive. Moving a vector moves its
// memory; a copy lies on the heap.
template <typename T>
class PixelAllocator {
 public:
  using value_type = T;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  PixelAllocator() = default;
  explicit PixelAllocator(std::shared_ptr<PixelMemory> memory) : memory_(std::move(memory)) {}
  template <typename U>
  explicit PixelAllocator(const PixelAllocator<U>& other) : memory_(other.memory()) {}

  T* allocate(size_t count) {
    void* memory = memory_ == nullptr ? nullptr : memory_->Allocate(count * sizeof(T));
    return static_cast<T*>(memory != nullptr ? memory : ::operator new(count * sizeof(T)));
  }
  void deallocate(T* memory, size_t) {
    if (memory_ == nullptr || !memory_->Free(memory)) ::operator delete(memory);
  }

  PixelAllocator select_on_container_copy_construction() const { return PixelAllocator(); }
  const std::shared_ptr<PixelMemory>& memory() const { return memory_; }
  bool operator==(const PixelAllocator& other) const { return memory_ == other.memory_; }

 private:
  std::shared_ptr<PixelMemory> memory_;
};

using Pixels = std::vector<uint8_t, PixelAllocator<uint8_t>>;

}  // namespace dla
