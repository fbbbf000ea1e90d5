// Sums of products in AVX-512 registers, which convolutions are made of. To be included by the
// files of such kernels alone.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "model/cpu/planes.h"

// One for both types, since a template has but one: the compiler uses bf16 instructions only where
// it is told to.
#define DLA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx512bf16")))
#define DLA_AVX512_INLINE DLA_AVX512 __attribute__((always_inline)) static inline

// For what reads pixels: beyond the input of a tile that is not full, perhaps where another thread
// writes, which is ignored (see ConvKernel). ThreadSanitizer need not look.
#define DLA_READS_BEYOND __attribute__((noinline, no_sanitize("thread")))

namespace dla::cpu {

// With 32 outputs each they take 28 of the 32 registers. Rows of 14, 28, 56 or 112 pixels, which is
// what photos of 224 come to, divide evenly.
inline constexpr int kPixels = 14;

struct Float32 {
  static constexpr Element kElement = Element::kFloat32;
  static constexpr int kInputs = 1;  // that one product adds up

  static uint32_t Pack(const float* weights) { return std::bit_cast<uint32_t>(weights[0]); }
  DLA_AVX512_INLINE __m512i Spread(const char* input) {
    return _mm512_castps_si512(_mm512_set1_ps(*reinterpret_cast<const float*>(input)));
  }
  DLA_AVX512_INLINE __m512 Product(__m512 sum, __m512i input, __m512i weights) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(input), _mm512_castsi512_ps(weights), sum);
  }
  DLA_AVX512_INLINE void Load(const char* cell, __m512& low, __m512& high) {
    low = _mm512_load_ps(cell);
    high = _mm512_load_ps(cell + 64);
  }
  DLA_AVX512_INLINE void Store(char* cell, __m512 low, __m512 high) {
    _mm512_store_ps(cell, low);
    _mm512_store_ps(cell + 64, high);
  }
};

// Of a tile and 32 outputs.
struct Sums {
  __m512 low[kPixels];
  __m512 high[kPixels];
};

enum class Outputs { kAll, kLow, kHigh };

// Adds to the sums what one input, or pair of inputs, contributes. Written with an index sequence,
// for the compiler keeps an array in registers only if it sees no loop over it.
template <typename Type, int64_t kStep, Outputs kOutputs, size_t... kPixel>
DLA_AVX512_INLINE void AddProducts(Sums& sums, const char* input, const uint32_t* weights,
                                   std::index_sequence<kPixel...>) {
  constexpr bool kLow = kOutputs != Outputs::kHigh;
  constexpr bool kHigh = kOutputs != Outputs::kLow;
  const __m512i low = kLow ? _mm512_loadu_si512(weights) : __m512i();
  const __m512i high = kHigh ? _mm512_loadu_si512(weights + (kLow ? 16 : 0)) : __m512i();
  const auto add = [&](size_t pixel) DLA_AVX512 __attribute__((always_inline)) {
    const __m512i x = Type::Spread(input + pixel * kStep);
    if constexpr (kLow) sums.low[pixel] = Type::Product(sums.low[pixel], x, low);
    if constexpr (kHigh) sums.high[pixel] = Type::Product(sums.high[pixel], x, high);
  };
  (add(kPixel), ...);
}

}  // namespace dla::cpu
