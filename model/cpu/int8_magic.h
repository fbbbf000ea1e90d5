// The way of int8 sums from AMX tiles to memory in fewer instructions, which matters: while tiles
// are multiplied, half of the other vector instructions have to wait.
//
// Sums do not begin with 0 but with the bits of a float between 2^23 and 2^24, where floats are
// whole numbers: so a sum's bits are those of a float all the time, and nothing converts it. The
// same at the end: the product and its term add up to 1.5 x 2^23 + y, whose last bits are y,
// rounded. Only for panels whose sums and results are never too large for that, whatever the input.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "model/cpu/int8_finish.h"

#define DLA_MAGIC \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")))
#define DLA_MAGIC_INLINE DLA_MAGIC __attribute__((always_inline)) inline

namespace dla::cpu {

inline constexpr double kLeastWhole = 8388608;  // 2^23
inline constexpr double kMostWhole = 16777215;  // 2^24 - 1
inline constexpr double kMagic = 12582912;      // 1.5 x 2^23, 0x4B400000
inline constexpr double kResidualBase = 32768;  // of floats that hold a byte in their bits 8 to 15

struct alignas(64) Int8MagicTerms {
  int32_t start[2][16];  // of the sums
  float factor[2][16];
  float term[2][16];
};

// False where the panel's numbers may be too large. `residual_factor` is 0 without a residual.
inline bool OrderMagicTerms(const Int8Panel& panel, bool has_residual, float residual_factor,
                            Int8MagicTerms& terms) {
  if (residual_factor > 8) return false;
  const size_t rows = panel.weights.size() / kPanelOutputs;
  for (int half = 0; half < 2; ++half) {
    for (int column = 0; column < 16; ++column) {
      const int output = OutputOfColumn(column, half == 1);
      double least = 0;
      double most = 0;
      for (size_t row = 0; row < rows; ++row) {
        // NOLINTNEXTLINE(bugprone-signed-char-misuse): a number, not a character
        const int weight = panel.weights[row * kPanelOutputs + output];
        (weight < 0 ? least : most) += 255 * weight;
      }
      const double factor = panel.factor[output];
      const double term = panel.term[output];
      // What makes up for the start, as a float. A start is whole: it comes within half a factor.
      float rest;
      double start;
      if (has_residual) {
        start = std::nearbyint((kLeastWhole + kMostWhole - least - most) / 2);
        rest = static_cast<float>(term - start * factor - kResidualBase * residual_factor);
      } else {
        if (factor > 0.0625) return false;
        rest = static_cast<float>(std::nearbyint(kMagic - kMagic * factor));
        start = factor == 0 ? kMagic : std::nearbyint((kMagic + term - rest) / factor);
        if (factor == 0) rest = static_cast<float>(kMagic + std::nearbyint(term));
        constexpr double kMostWord = 32000;
        if (std::max(std::abs(factor * least + term), std::abs(factor * most + term)) > kMostWord) {
          return false;
        }
      }
      if (!(start + least >= kLeastWhole && start + most <= kMostWhole)) return false;
      // A float's bits are 0x4B000000 more than the whole number it is more than 2^23.
      terms.start[half][column] = 0x4B000000 + static_cast<int32_t>(start - kLeastWhole);
      terms.factor[half][column] = panel.factor[output];
      terms.term[half][column] = rest;
    }
  }
  return true;
}

// How bytes are put in order.
struct alignas(64) MagicOrders {
  uint8_t bytes[64];
  uint8_t low[64];  // the residual's, of the columns
  uint8_t high[64];

  constexpr MagicOrders() : bytes(), low(), high() {
    for (int i = 0; i < 64; ++i) {
      // Output 8l + j is the lane's word 2j, output 8l + 4 + j is word 2j + 1.
      const int output = i % 32;
      const int word = output % 4 * 2 + output % 8 / 4;
      bytes[i] = static_cast<uint8_t>(output / 8 * 16 + i / 32 * 8 + word);
      low[i] = static_cast<uint8_t>(OutputOfColumn(i / 4, false));
      high[i] = static_cast<uint8_t>(OutputOfColumn(i / 4, true));
    }
  }
};
inline constexpr MagicOrders kMagicOrders;

// As Int8Finisher, for bytes.
template <Int8Store kStore, bool kResidual>
class MagicFinisher {
 public:
  DLA_MAGIC_INLINE MagicFinisher(const Int8MagicTerms& terms, float residual_factor)
      : factor_low_(_mm512_load_ps(terms.factor[0])),
        factor_high_(_mm512_load_ps(terms.factor[1])),
        term_low_(_mm512_load_ps(terms.term[0])),
        term_high_(_mm512_load_ps(terms.term[1])),
        residual_factor_(_mm512_set1_ps(residual_factor)),
        order_(_mm512_load_si512(kMagicOrders.bytes)),
        low_(_mm512_load_si512(kMagicOrders.low)),
        high_(_mm512_load_si512(kMagicOrders.high)) {}

  // The units 2 x pair and 2 x pair + 1.
  DLA_MAGIC_INLINE void Finish(const Int8Sums& sums, const PixelTile& tile,
                               const Int8Target& target, int pair) const {
    const int unit = 2 * pair;
    const unsigned valid = tile.valid >> unit & 3;
    if (valid == 0) return;
    const int64_t at = tile.target * target.cell + unit * target.bytes;
    const int64_t from = tile.target * target.residual_cell + unit * target.residual_bytes;
    __m512i residual[2] = {};
    if constexpr (kResidual) {
      if ((valid & 1) != 0) residual[0] = LoadResidual(target, from);
      if ((valid & 2) != 0) residual[1] = LoadResidual(target, from + target.residual_bytes);
    }
    const __m512i bytes = Pack(sums.low[unit], residual);
    if ((valid & 1) != 0) StoreBytes<kStore>(target, at, _mm512_castsi512_si256(bytes));
    if ((valid & 2) != 0)
      StoreBytes<kStore>(target, at + target.bytes, _mm512_extracti64x4_epi64(bytes, 1));
  }

  // So many pairs, whose units are all valid.
  template <int kPairs>
  DLA_MAGIC_INLINE void FinishFull(const Int8Sums& sums, const PixelTile& tile,
                                   const Int8Target& target, int pair) const {
    int64_t at = tile.target * target.cell + 2 * pair * target.bytes;
    int64_t from = tile.target * target.residual_cell + 2 * pair * target.residual_bytes;
    const int32_t* low = sums.low[2 * pair];
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) {
      __m512i residual[2] = {};
      if constexpr (kResidual) {
        residual[0] = LoadResidual(target, from);
        residual[1] = LoadResidual(target, from + target.residual_bytes);
        from += 2 * target.residual_bytes;
      }
      const __m512i bytes = Pack(low + 32 * i, residual);
      StoreBytes<kStore>(target, at, _mm512_castsi512_si256(bytes));
      StoreBytes<kStore>(target, at + target.bytes, _mm512_extracti64x4_epi64(bytes, 1));
      at += 2 * target.bytes;
    }
  }

 private:
  DLA_MAGIC_INLINE static __m512 Scale(const int32_t* sums, __m512 factor, __m512 term) {
    return _mm512_fmadd_ps(_mm512_load_ps(sums), factor, term);
  }

  // Two units' outputs. `sums` leads to the first one's in Int8Sums::low.
  DLA_MAGIC_INLINE __m512i Pack(const int32_t* sums, const __m512i* residual) const {
    constexpr int kHigh = kMostUnits * 16;
    const __m512 low = Scale(sums, factor_low_, term_low_);
    const __m512 high = Scale(sums + kHigh, factor_high_, term_high_);
    const __m512 next_low = Scale(sums + 16, factor_low_, term_low_);
    const __m512 next_high = Scale(sums + kHigh + 16, factor_high_, term_high_);
    if constexpr (kResidual) {
      const __m512i words = _mm512_packs_epi32(AddResidual(low, low_, residual[0]),
                                               AddResidual(high, high_, residual[0]));
      const __m512i next_words = _mm512_packs_epi32(AddResidual(next_low, low_, residual[1]),
                                                    AddResidual(next_high, high_, residual[1]));
      return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                      _mm512_packus_epi16(words, next_words));
    }
    return _mm512_permutexvar_epi8(
        order_, _mm512_packus_epi16(Words(low, high), Words(next_low, next_high)));
  }

  // The last 16 bits of each, in turns.
  DLA_MAGIC_INLINE static __m512i Words(__m512 low, __m512 high) {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_castps_si512(low),
                                   _mm512_slli_epi32(_mm512_castps_si512(high), 16));
  }

  DLA_MAGIC_INLINE static __m512i LoadResidual(const Int8Target& target, int64_t at) {
    return _mm512_castsi256_si512(LoadResidualBytes<kStore>(target, at));
  }

  // Bytes become the floats kResidualBase + byte.
  DLA_MAGIC_INLINE __m512i AddResidual(__m512 y, __m512i order, __m512i residual) const {
    const __m512i base = _mm512_set1_epi32(0x47000000);
    const __m512i bits = _mm512_mask_permutexvar_epi8(base, 0x2222222222222222, order, residual);
    return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_castsi512_ps(bits), residual_factor_, y));
  }

  const __m512 factor_low_, factor_high_, term_low_, term_high_, residual_factor_;
  __m512i order_, low_, high_;
};

}  // namespace dla::cpu
