// Between int8 and the wider types, with the interface of convolutions: so they take their turns
// among those of the stem, too.
#include <immintrin.h>

#include <cstring>

#include "model/cpu/int8_conv_kernel.h"

#define DLA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define DLA_AVX512_INLINE DLA_AVX512 __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

// 16 of a cell's numbers. `half` is 0 or 1.
DLA_AVX512_INLINE __m512 LoadHalf(const char* cell, Element element, int half) {
  if (element == Element::kFloat32) return _mm512_loadu_ps(cell + half * 64);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cell + half * 32));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

DLA_AVX512_INLINE void StoreHalf(char* cell, Element element, int half, __m512 values) {
  if (element == Element::kFloat32) {
    _mm512_storeu_ps(cell + half * 64, values);
    return;
  }
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(cell + half * 32),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// Calls convert(buffers, tile, plane, unit) for all units that tiles ask for.
template <typename Convert>
void ForUnits(absl::Span<const ConvPiece> pieces, size_t planes, Convert convert) {
  for (const ConvPiece& piece : pieces) {
    for (size_t plane = 0; plane < planes; ++plane) {
      for (const PixelTile& tile : piece.tiles) {
        for (int unit = 0; unit < kMostUnits; ++unit) {
          if ((tile.valid >> unit & 1) != 0) convert(piece.buffers, tile, plane, unit);
        }
      }
    }
  }
}

class NarrowKernel final : public ConvKernel {
 public:
  explicit NarrowKernel(const NarrowSpec& spec) : spec_(spec) {}

  void Run(absl::Span<const ConvPiece> pieces) const override {
    ForUnits(pieces, spec_.halves.size(), [&](const auto&... unit) { RunUnit(unit...); });
  }

 private:
  DLA_AVX512 void RunUnit(const ConvBuffers& buffers, const PixelTile& tile, size_t plane,
                          int unit) const {
    const char* const cell =
        buffers.sources[plane] + int64_t{tile.source + unit} * CellBytes(spec_.source);
    const int64_t at = int64_t{tile.target} * spec_.target_cell + unit * spec_.target_bytes;
    const __m512 factor = _mm512_set1_ps(spec_.factor);
    const __m512 offset = _mm512_set1_ps(spec_.offset);
    for (int half = 0; half < 2; ++half) {
      const __m512 y = _mm512_fmadd_ps(LoadHalf(cell, spec_.source, half), factor, offset);
      const __m512i whole = _mm512_max_epi32(_mm512_cvtps_epi32(y), _mm512_setzero_si512());
      const Int8Half& to = spec_.halves[plane][half];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(buffers.targets[to.plane] + at + to.offset),
                       _mm512_cvtusepi32_epi8(whole));
    }
  }

  const NarrowSpec spec_;
};

class WidenKernel final : public ConvKernel {
 public:
  explicit WidenKernel(const WidenSpec& spec) : spec_(spec) {}

  void Run(absl::Span<const ConvPiece> pieces) const override {
    ForUnits(pieces, spec_.halves.size(), [&](const auto&... unit) { RunUnit(unit...); });
  }

 private:
  DLA_AVX512 void RunUnit(const ConvBuffers& buffers, const PixelTile& tile, size_t plane,
                          int unit) const {
    char* const cell =
        buffers.targets[plane] + int64_t{tile.target + unit} * CellBytes(spec_.target);
    const int64_t at = int64_t{tile.source + unit} * spec_.source_cell;
    const __m512 factor = _mm512_set1_ps(spec_.factor);
    const __m512 offset = _mm512_set1_ps(spec_.offset);
    for (int half = 0; half < 2; ++half) {
      const Int8Half& from = spec_.halves[plane][half];
      const __m128i bytes = _mm_loadu_si128(
          reinterpret_cast<const __m128i*>(buffers.sources[from.plane] + at + from.offset));
      const __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
      StoreHalf(cell, spec_.target, half, _mm512_mul_ps(_mm512_sub_ps(q, offset), factor));
    }
  }

  const WidenSpec spec_;
};

}  // namespace

std::unique_ptr<const ConvKernel> MakeNarrowKernel(const NarrowSpec& spec) {
  return std::make_unique<NarrowKernel>(spec);
}

std::unique_ptr<const ConvKernel> MakeWidenKernel(const WidenSpec& spec) {
  return std::make_unique<WidenKernel>(spec);
}

}  // namespace dla::cpu
