// The way of int8 sums from the registers to memory, on AVX-512. To be included by the files of
// kernels alone.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "model/cpu/int8_conv_kernel.h"

#define DLA_INT8 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define DLA_INT8_INLINE DLA_INT8 __attribute__((always_inline)) inline

namespace dla::cpu {

// A tile's, of one panel. Column 4l + j of `low` is output 8l + j, of `high` output 8l + 4 + j:
// packed to bytes lane by lane, they come to lie in order.
struct alignas(64) Int8Sums {
  int32_t low[kMostUnits][16];
  int32_t high[kMostUnits][16];
};

constexpr int OutputOfColumn(int column, bool high) {
  return column / 4 * 8 + column % 4 + (high ? 4 : 0);
}

// A panel's numbers in the order of the sums' columns.
struct alignas(64) Int8Terms {
  float factor[2][16];
  float term[2][16];
};

inline Int8Terms OrderTerms(const Int8Panel& panel) {
  Int8Terms terms;
  for (int half = 0; half < 2; ++half) {
    for (int column = 0; column < 16; ++column) {
      const int output = OutputOfColumn(column, half == 1);
      terms.factor[half][column] = panel.factor[output];
      terms.term[half][column] = panel.term[output];
    }
  }
  return terms;
}

// Where a panel's outputs go, for one photo.
struct Int8Target {
  char* halves[2];           // of the unit at pixel 0
  const char* residuals[2];  // null for none
  int64_t cell;
  int64_t bytes;          // from unit to unit
  int64_t residual_cell;  // these two as the two before
  int64_t residual_bytes;
};

enum class Int8Store {
  kBytes,  // both halves lie together
  kHalfBytes,
  kBf16,
  kFloat32,
};

// A unit's residual bytes. They lie as the bytes of the output do.
template <Int8Store kStore>
DLA_INT8_INLINE __m256i LoadResidualBytes(const Int8Target& target, int64_t at) {
  if constexpr (kStore == Int8Store::kBytes) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(target.residuals[0] + at));
  } else {
    return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(target.residuals[1] + at),
                               reinterpret_cast<const __m128i*>(target.residuals[0] + at));
  }
}

// A unit's output.
template <Int8Store kStore>
DLA_INT8_INLINE void StoreBytes(const Int8Target& target, int64_t at, __m256i bytes) {
  if constexpr (kStore == Int8Store::kBytes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target.halves[0] + at), bytes);
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target.halves[0] + at),
                     _mm256_castsi256_si128(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target.halves[1] + at),
                     _mm256_extracti128_si256(bytes, 1));
  }
}

// Finishes a tile's units in pairs. kResidual: bytes are added.
template <Int8Store kStore, bool kResidual>
class Int8Finisher {
 public:
  DLA_INT8_INLINE Int8Finisher(const Int8Terms& terms, float residual_factor, bool relu)
      : factor_low_(_mm512_load_ps(terms.factor[0])),
        factor_high_(_mm512_load_ps(terms.factor[1])),
        term_low_(_mm512_load_ps(terms.term[0])),
        term_high_(_mm512_load_ps(terms.term[1])),
        residual_factor_(_mm512_set1_ps(residual_factor)),
        relu_(relu) {}

  // The units 2 x pair and 2 x pair + 1.
  DLA_INT8_INLINE void Finish(const Int8Sums& sums, const PixelTile& tile, const Int8Target& target,
                              int pair) const {
    const unsigned valid = tile.valid >> 2 * pair & 3;
    if (valid != 0) FinishPair(sums, tile, target, pair, (valid & 1) != 0, (valid & 2) != 0);
  }

  // So many pairs, whose units are all valid.
  template <int kPairs>
  DLA_INT8_INLINE void FinishFull(const Int8Sums& sums, const PixelTile& tile,
                                  const Int8Target& target, int pair) const {
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) FinishPair(sums, tile, target, pair + i, true, true);
  }

 private:
  DLA_INT8_INLINE void FinishPair(const Int8Sums& sums, const PixelTile& tile,
                                  const Int8Target& target, int pair, bool first,
                                  bool second) const {
    const int unit = 2 * pair;
    const int64_t at = tile.target * target.cell + unit * target.bytes;
    const int64_t next = at + target.bytes;
    __m512 low = Scale(sums.low[unit], factor_low_, term_low_);
    __m512 high = Scale(sums.high[unit], factor_high_, term_high_);
    __m512 next_low = Scale(sums.low[unit + 1], factor_low_, term_low_);
    __m512 next_high = Scale(sums.high[unit + 1], factor_high_, term_high_);
    if constexpr (kResidual) {
      const int64_t from = tile.target * target.residual_cell + unit * target.residual_bytes;
      if (first) AddResidual(target, from, low, high);
      if (second) AddResidual(target, from + target.residual_bytes, next_low, next_high);
    }
    if constexpr (kStore == Int8Store::kBytes || kStore == Int8Store::kHalfBytes) {
      const __m512i words = _mm512_packs_epi32(_mm512_cvtps_epi32(low), _mm512_cvtps_epi32(high));
      const __m512i next_words =
          _mm512_packs_epi32(_mm512_cvtps_epi32(next_low), _mm512_cvtps_epi32(next_high));
      const __m512i bytes = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                                     _mm512_packus_epi16(words, next_words));
      if (first) StoreBytes<kStore>(target, at, _mm512_castsi512_si256(bytes));
      if (second) StoreBytes<kStore>(target, next, _mm512_extracti64x4_epi64(bytes, 1));
    } else {
      if (first) StoreWide(target, at, low, high);
      if (second) StoreWide(target, next, next_low, next_high);
    }
  }

  DLA_INT8_INLINE static __m512 Scale(const int32_t* sums, __m512 factor, __m512 term) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), factor, term);
  }

  DLA_INT8_INLINE void AddResidual(const Int8Target& target, int64_t at, __m512& low,
                                   __m512& high) const {
    const __m512i words = _mm512_cvtepu8_epi16(LoadResidualBytes<kStore>(target, at));
    const __m512i zero = _mm512_setzero_si512();
    low = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_unpacklo_epi16(words, zero)), residual_factor_,
                          low);
    high = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_unpackhi_epi16(words, zero)), residual_factor_,
                           high);
  }

  DLA_INT8_INLINE void StoreWide(const Int8Target& target, int64_t at, __m512 low,
                                 __m512 high) const {
    if (relu_) {
      low = _mm512_max_ps(_mm512_setzero_ps(), low);
      high = _mm512_max_ps(_mm512_setzero_ps(), high);
    }
    // Outputs 0 to 15, and 16 to 31.
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    StoreHalf(target.halves[0] + at, _mm512_permutex2var_ps(low, first, high));
    StoreHalf(target.halves[1] + at, _mm512_permutex2var_ps(low, second, high));
  }

  DLA_INT8_INLINE static void StoreHalf(char* to, __m512 values) {
    if constexpr (kStore == Int8Store::kFloat32) {
      _mm512_storeu_ps(to, values);
    } else {
      const __m512i bits = _mm512_castps_si512(values);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      const __m512i rounded =
          _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                          _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
    }
  }

  const __m512 factor_low_, factor_high_, term_low_, term_high_, residual_factor_;
  const bool relu_;
};

inline Int8Store StoreOf(const Int8ConvSpec& spec, const Int8Panel& panel) {
  if (spec.target == Element::kBf16) return Int8Store::kBf16;
  if (spec.target == Element::kFloat32) return Int8Store::kFloat32;
  const auto& [first, second] = panel.halves;
  const bool together = first.plane == second.plane && first.offset + kHalfOutputs == second.offset;
  return together ? Int8Store::kBytes : Int8Store::kHalfBytes;
}

template <Int8Store kStore, typename Run>
void WithResidual(bool has_residual, Run& run) {
  has_residual ? run.template operator()<kStore, true>() : run.template operator()<kStore, false>();
}

// Calls run.operator()<Int8Store, bool has_residual>().
template <typename Run>
void WithStore(Int8Store store, bool has_residual, Run run) {
  switch (store) {
    case Int8Store::kBytes:
      return WithResidual<Int8Store::kBytes>(has_residual, run);
    case Int8Store::kHalfBytes:
      return WithResidual<Int8Store::kHalfBytes>(has_residual, run);
    case Int8Store::kBf16:
      return WithResidual<Int8Store::kBf16>(has_residual, run);
    case Int8Store::kFloat32:
      return WithResidual<Int8Store::kFloat32>(has_residual, run);
  }
}

// `panel` has halves and residual_halves.
template <typename Panel>
Int8Target TargetOf(const ConvBuffers& buffers, const Int8ConvSpec& shape, const Panel& panel) {
  Int8Target target{{},
                    {},
                    shape.target_cell,
                    shape.target_bytes,
                    shape.residual_cell,
                    shape.target_bytes / shape.target_cell * shape.residual_cell};
  for (int i = 0; i < 2; ++i) {
    target.halves[i] = buffers.targets[panel.halves[i].plane] + panel.halves[i].offset;
    if (buffers.residuals == nullptr) continue;
    const Int8Half& residual = panel.residual_halves[i];
    target.residuals[i] = buffers.residuals[residual.plane] + residual.offset;
  }
  return target;
}

// First byte of each tap's window of the unit at pixel 0.
using TapPointers = absl::InlinedVector<const char*, 64>;
inline TapPointers PointersOf(const ConvBuffers& buffers, const std::vector<Int8Tap>& taps) {
  TapPointers pointers;
  for (const Int8Tap& tap : taps) pointers.push_back(buffers.sources[tap.plane] + tap.offset);
  return pointers;
}

}  // namespace dla::cpu
