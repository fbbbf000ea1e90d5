// Vectors that begin with a cache line, so that no load of 64 bytes touches two.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace dla::cpu {

template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  LineAllocator() = default;
  template <typename Other>
  explicit LineAllocator(const LineAllocator<Other>&) {}

  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* begin, size_t) { ::operator delete(begin, kLine); }
  bool operator==(const LineAllocator&) const = default;
};

template <typename T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

}  // namespace dla::cpu
