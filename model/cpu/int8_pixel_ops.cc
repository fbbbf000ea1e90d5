#include "model/cpu/int8_pixel_ops.h"

#include <immintrin.h>

#define DLA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define DLA_AVX512_INLINE DLA_AVX512 __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

constexpr int kPart = 16;  // channels that go through a register of 32-bit numbers

DLA_AVX512_INLINE __m512 LoadPart(const char* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

// Of numbers that are not negative.
DLA_AVX512_INLINE void StorePart(char* to, __m512 values) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(values)));
}

}  // namespace

DLA_AVX512 void MaxPool2x2Int8(const char* source, const PlaneGeometry& from, char* target,
                               const PlaneGeometry& to, int cell) {
  const int64_t row = int64_t{from.pitch()} * cell;
  for (int y = 0; y < to.height; ++y) {
    const char* in = source + 2 * y * row;
    char* out = target + int64_t{y} * to.pitch() * cell;
    for (int x = 0; x < to.width; ++x, in += 2 * cell, out += cell) {
      if (cell == 64) {
        const __m512i top = _mm512_max_epu8(_mm512_loadu_si512(in), _mm512_loadu_si512(in + 64));
        const __m512i bottom =
            _mm512_max_epu8(_mm512_loadu_si512(in + row), _mm512_loadu_si512(in + row + 64));
        _mm512_storeu_si512(out, _mm512_max_epu8(top, bottom));
        continue;
      }
      for (int part = 0; part < cell; part += kPart) {
        const auto at = [&](int64_t offset) DLA_AVX512 __attribute__((always_inline)) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + offset + part));
        };
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out + part),
            _mm_max_epu8(_mm_max_epu8(at(0), at(cell)), _mm_max_epu8(at(row), at(row + cell))));
      }
    }
  }
}

DLA_AVX512 void AveragePool3x3Int8(const char* source, const PlaneGeometry& from, char* target,
                                   const PlaneGeometry& to, int cell) {
  const int64_t row = int64_t{from.pitch()} * cell;
  const __m512 ninth = _mm512_set1_ps(1.0F / 9);
  for (int y = 0; y < to.height; ++y) {
    for (int x = 0; x < to.width; ++x) {
      const char* centre = source + 2 * y * row + int64_t{2} * x * cell;
      char* out = target + (int64_t{y} * to.pitch() + x) * cell;
      for (int part = 0; part < cell; part += kPart) {
        __m512 sum = _mm512_setzero_ps();
        for (int dy = -1; dy <= 1; ++dy) {
          for (int dx = -1; dx <= 1; ++dx) {
            sum = _mm512_add_ps(sum, LoadPart(centre + dy * row + dx * cell + part));
          }
        }
        StorePart(out + part, _mm512_mul_ps(sum, ninth));
      }
    }
  }
}

DLA_AVX512 void AddInt8(const Int8View& a, const Int8View& b, const std::array<float, 2>& factors,
                        int plane, char* target, const PlaneGeometry& geometry, int cell) {
  const __m512 factor_a = _mm512_set1_ps(factors[0]);
  const __m512 factor_b = _mm512_set1_ps(factors[1]);
  for (int part = 0; part < cell; part += kPart) {
    const int channel = plane * cell + part;
    const auto begin = [&](const Int8View& view) {
      return view.first + channel / view.cell * view.plane_bytes + channel % view.cell;
    };
    for (int y = 0; y < geometry.height; ++y) {
      const char* from_a = begin(a) + int64_t{y} * a.pitch * a.cell;
      const char* from_b = begin(b) + int64_t{y} * b.pitch * b.cell;
      char* out = target + int64_t{y} * geometry.pitch() * cell + part;
      for (int x = 0; x < geometry.width; ++x, from_a += a.cell, from_b += b.cell, out += cell) {
        StorePart(out, _mm512_fmadd_ps(LoadPart(from_a), factor_a,
                                       _mm512_mul_ps(LoadPart(from_b), factor_b)));
      }
    }
  }
}

}  // namespace dla::cpu
