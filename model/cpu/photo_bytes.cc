#include "model/cpu/photo_bytes.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#define DLA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define DLA_AVX512_INLINE DLA_AVX512 __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

constexpr int kPixels = 16;  // at a time

// Up to 16 pixels from RGB to RGB0, followed by `outside`.
DLA_AVX512_INLINE __m512i LoadPixels(const uint8_t* from, int count, __m512i outside) {
  const __m512i bytes =
      _mm512_maskz_loadu_epi8((__mmask64{1} << 3 * count) - 1, from);  // 48 of them at most
  const __m512i lanes = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11), bytes);
  const __m512i spread =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
  const auto inside = static_cast<__mmask16>((1U << count) - 1);
  return _mm512_mask_mov_epi32(outside, inside, _mm512_shuffle_epi8(lanes, spread));
}

// A row and the one below it; null for one outside the photo.
DLA_AVX512 void WriteRow(const uint8_t* row, const uint8_t* below, int width, __m512i outside,
                         char* target) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_mask_storeu_epi64(target - 64, 0xff ^ 0xff >> kPhotoBorder, outside);
  int x = 0;
  for (; x < width; x += kPixels, target += kPixels * kPhotoCell) {
    const int count = std::min(kPixels, width - x);
    const __m512i upper = row == nullptr ? outside : LoadPixels(row + 3 * x, count, outside);
    const __m512i lower = below == nullptr ? outside : LoadPixels(below + 3 * x, count, outside);
    _mm512_storeu_si512(target, _mm512_permutex2var_epi32(upper, first, lower));
    _mm512_storeu_si512(target + 64, _mm512_permutex2var_epi32(upper, second, lower));
  }
  _mm512_storeu_si512(target, outside);
}

}  // namespace

PhotoBytes::PhotoBytes(const InputSpec& input)
    : height_(input.height),
      width_(input.width),
      row_bytes_(int64_t{Geometry(input).pitch()} * kPhotoCell) {
  for (int channel = 0; channel < 3; ++channel) {
    outside_[channel] =
        static_cast<uint8_t>(std::clamp(std::nearbyint(255 * input.mean[channel]), 0.0F, 255.0F));
  }
}

bool PhotoBytes::Fit(const InputSpec& input) {
  return std::all_of(input.mean.begin(), input.mean.end(),
                     [](float mean) { return mean >= 0 && mean <= 1; });
}

PlaneGeometry PhotoBytes::Geometry(const InputSpec& input) {
  PlaneGeometry geometry{input.height, input.width + 7, kPhotoBorder, kPhotoBorder, kPhotoBorder};
  geometry.align = 64 / kPhotoCell;
  return geometry;
}

DLA_AVX512 void PhotoBytes::Write(const uint8_t* pixels, int first, int end, char* target) const {
  int outside_bits;
  std::memcpy(&outside_bits, outside_.data(), sizeof(outside_bits));
  const __m512i outside = _mm512_set1_epi32(outside_bits);
  const auto row_at = [&](int y) {
    return y < 0 || y >= height_ ? nullptr : pixels + int64_t{y} * width_ * 3;
  };
  for (int y = first; y < end; ++y) {
    WriteRow(row_at(y), row_at(y + 1), width_, outside, target + y * row_bytes_);
  }
}

}  // namespace dla::cpu
