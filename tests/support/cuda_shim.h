// Lets a kernel's source be compiled as C++ and run on the processor, one thread after another.
// To be included before the source, which goes into a namespace of its own.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <type_traits>
#include <utility>

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's words
#define __global__
#define __device__
#define __shared__ static thread_local
// NOLINTEND(bugprone-reserved-identifier)

namespace dla::shim {

struct Dim3 {
  unsigned x = 1;
};
inline thread_local Dim3 block_index, thread_index, block_dim;

// Threads of a block that do something together, see FOR_THREADS and SYNC. On a card the next phase
// would begin before the last one ended if there were no SYNC between them: here the program ends.
inline thread_local bool in_phase = false;
inline unsigned BeginPhase() {
  if (in_phase) std::abort();
  in_phase = true;
  return 0;
}

// A kernel without SYNC: each thread by itself. With it: each block as one call, in which
// FOR_THREADS runs through the threads.
enum class Kind { kThreads, kPhases };

template <typename... Params, size_t... kIndex>
void Call(void (*kernel)(Params...), void** args, std::index_sequence<kIndex...>) {
  kernel(*static_cast<std::remove_cv_t<Params>*>(args[kIndex])...);
}

template <typename... Params>
void Run(void (*kernel)(Params...), Kind kind, unsigned blocks, unsigned threads, void** args) {
  block_dim.x = threads;
  for (block_index.x = 0; block_index.x < blocks; ++block_index.x) {
    in_phase = false;
    const unsigned calls = kind == Kind::kThreads ? threads : 1;
    for (thread_index.x = 0; thread_index.x < calls; ++thread_index.x) {
      Call(kernel, args, std::index_sequence_for<Params...>());
    }
  }
}

inline float HalfToFloat(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float value = std::ldexp(static_cast<float>(fraction), -24);
  return sign != 0 ? -value : value;
}

// To nearest even; of finite values.
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = bits >> 16 & 0x8000u;
  const float magnitude = std::abs(value);
  if (magnitude == 0) return sign;
  if (magnitude >= 65520.0f) return sign | 0x7c00u;
  int exponent = 0;
  std::frexp(magnitude, &exponent);               // magnitude < 2^exponent
  const int unit = std::max(exponent - 11, -24);  // 11 bits of precision
  const float units = std::nearbyint(std::ldexp(magnitude, -unit));
  // What has fewer than 11 bits is subnormal; a carry moves into the exponent by itself.
  return sign | static_cast<uint16_t>(static_cast<uint32_t>(units) + ((unit + 24) << 10));
}

}  // namespace dla::shim

#define SYNC() static_cast<void>(dla::shim::in_phase = false)
#define UNROLL_16
#define FOR_THREADS(t) for (unsigned t = dla::shim::BeginPhase(); t < dla::shim::block_dim.x; ++t)
#define THREAD_INDEX() \
  (dla::shim::block_index.x * dla::shim::block_dim.x + dla::shim::thread_index.x)
#define blockIdx dla::shim::block_index
