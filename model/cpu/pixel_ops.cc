#include "model/cpu/pixel_ops.h"

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#define DLA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define DLA_AVX512_INLINE DLA_AVX512 __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

// Round to nearest even. NaN stays NaN, if only a quiet one.
DLA_AVX512_INLINE __m256i ToBf16(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(
      _mm512_mask_mov_epi32(rounded, nan, _mm512_or_epi32(bits, _mm512_set1_epi32(0x400000))), 16));
}

// 16 of a cell's channels. `half` is 0 or 1.
template <Element kElement>
DLA_AVX512_INLINE __m512 Load(const char* cell, int half) {
  if constexpr (kElement == Element::kFloat32) {
    return _mm512_load_ps(cell + half * 64);
  } else {
    const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(cell + half * 32));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

template <Element kElement>
DLA_AVX512_INLINE void Store(char* cell, int half, __m512 values) {
  if constexpr (kElement == Element::kFloat32) {
    _mm512_store_ps(cell + half * 64, values);
  } else {
    _mm256_store_si256(reinterpret_cast<__m256i*>(cell + half * 32), ToBf16(values));
  }
}

// The first `count` of 4 pixels of 4 values each.
template <Element kElement>
DLA_AVX512_INLINE void StorePixels(char* target, int count, __m512 pixels) {
  const auto values = static_cast<__mmask16>((1U << 4 * count) - 1);
  if constexpr (kElement == Element::kFloat32) {
    _mm512_mask_storeu_ps(target, values, pixels);
  } else {
    _mm256_mask_storeu_epi16(target, values, ToBf16(pixels));
  }
}

// a >= b ? a : b, but NaN if either is.
DLA_AVX512_INLINE __m512 Max(__m512 a, __m512 b) {
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), nan, a);  // max_ps gives b if that is NaN
}

template <Element kElement>
DLA_AVX512 void MaxPool(const char* source, const PlaneGeometry& from, char* target,
                        const PlaneGeometry& to) {
  constexpr int64_t kBytes = CellBytes(kElement);
  for (int y = 0; y < to.height; ++y) {
    const char* top = source + int64_t{2} * y * from.pitch() * kBytes;
    const char* bottom = top + from.pitch() * kBytes;
    char* out = target + int64_t{y} * to.pitch() * kBytes;
    for (int x = 0; x < to.width; ++x, top += 2 * kBytes, bottom += 2 * kBytes, out += kBytes) {
      for (int half = 0; half < 2; ++half) {
        Store<kElement>(
            out, half,
            Max(Max(Load<kElement>(top, half), Load<kElement>(top + kBytes, half)),
                Max(Load<kElement>(bottom, half), Load<kElement>(bottom + kBytes, half))));
      }
    }
  }
}

template <Element kElement>
DLA_AVX512 void AveragePool(const char* source, const PlaneGeometry& from, char* target,
                            const PlaneGeometry& to) {
  constexpr int64_t kBytes = CellBytes(kElement);
  const __m512 ninth = _mm512_set1_ps(1.0F / 9);
  for (int y = 0; y < to.height; ++y) {
    for (int x = 0; x < to.width; ++x) {
      const char* centre = source + (int64_t{2} * y * from.pitch() + 2 * x) * kBytes;
      char* out = target + (int64_t{y} * to.pitch() + x) * kBytes;
      for (int half = 0; half < 2; ++half) {
        __m512 sum = _mm512_setzero_ps();
        for (int row = -1; row <= 1; ++row) {
          for (int column = -1; column <= 1; ++column) {
            const char* cell = centre + (int64_t{row} * from.pitch() + column) * kBytes;
            sum = _mm512_add_ps(sum, Load<kElement>(cell, half));
          }
        }
        Store<kElement>(out, half, _mm512_mul_ps(sum, ninth));
      }
    }
  }
}

template <Element kElement>
DLA_AVX512 void AddCells(const char* a, const char* b, char* target, int64_t cells) {
  constexpr int64_t kBytes = CellBytes(kElement);
  for (int64_t i = 0; i < cells; ++i, a += kBytes, b += kBytes, target += kBytes) {
    for (int half = 0; half < 2; ++half) {
      Store<kElement>(target, half,
                      _mm512_add_ps(Load<kElement>(a, half), Load<kElement>(b, half)));
    }
  }
}

template <Element kElement>
DLA_AVX512 void Average(const char* source, const PlaneGeometry& geometry, float* target) {
  constexpr int64_t kBytes = CellBytes(kElement);
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int y = 0; y < geometry.height; ++y) {
    const char* cell = source + int64_t{y} * geometry.pitch() * kBytes;
    for (int x = 0; x < geometry.width; ++x, cell += kBytes) {
      for (int half = 0; half < 2; ++half) {
        sums[half] = _mm512_add_ps(sums[half], Load<kElement>(cell, half));
      }
    }
  }
  const __m512 count = _mm512_set1_ps(static_cast<float>(geometry.height * geometry.width));
  _mm512_storeu_ps(target, _mm512_div_ps(sums[0], count));
  _mm512_storeu_ps(target + 16, _mm512_div_ps(sums[1], count));
}

}  // namespace

void ClearBorder(char* plane, const PlaneGeometry& geometry, int64_t cell_bytes) {
  const int64_t first = geometry.origin();
  const int64_t end = first + int64_t{geometry.height} * geometry.pitch();  // past the last row
  std::memset(plane, 0, first * cell_bytes);
  ClearRowEnds(plane + first * cell_bytes, geometry, 0, geometry.height, cell_bytes);
  std::memset(plane + end * cell_bytes, 0, (geometry.cells() - end) * cell_bytes);
}

void ClearLastHalves(char* target, const PlaneGeometry& geometry, int first, int end,
                     int64_t cell_bytes) {
  for (int y = first; y < end; ++y) {
    const int64_t last = int64_t{y} * geometry.pitch() + geometry.width - 1;
    std::memset(target + last * cell_bytes + cell_bytes / 2, 0, cell_bytes / 2);
  }
}

void ClearRowEnds(char* target, const PlaneGeometry& geometry, int first, int end,
                  int64_t cell_bytes) {
  const int64_t row = geometry.pitch() * cell_bytes;
  const int64_t inside = geometry.width * cell_bytes;
  for (int y = first; y < end; ++y) std::memset(target + y * row + inside, 0, row - inside);
}

void MaxPool2x2(const char* source, const PlaneGeometry& from, char* target,
                const PlaneGeometry& to, Element element) {
  element == Element::kBf16 ? MaxPool<Element::kBf16>(source, from, target, to)
                            : MaxPool<Element::kFloat32>(source, from, target, to);
}

void AveragePool3x3(const char* source, const PlaneGeometry& from, char* target,
                    const PlaneGeometry& to, Element element) {
  element == Element::kBf16 ? AveragePool<Element::kBf16>(source, from, target, to)
                            : AveragePool<Element::kFloat32>(source, from, target, to);
}

void Add(const char* a, const char* b, char* target, const PlaneGeometry& geometry,
         Element element) {
  element == Element::kBf16 ? AddCells<Element::kBf16>(a, b, target, geometry.cells())
                            : AddCells<Element::kFloat32>(a, b, target, geometry.cells());
}

void GlobalAverage(const char* source, const PlaneGeometry& geometry, Element element,
                   float* target) {
  element == Element::kBf16 ? Average<Element::kBf16>(source, geometry, target)
                            : Average<Element::kFloat32>(source, geometry, target);
}

WindowWriter::WindowWriter(const InputSpec& spec) : height_(spec.height), width_(spec.width) {
  for (int channel = 0; channel < 3; ++channel) {
    scale_[channel] = 1 / (255 * spec.std[channel]);
    offset_[channel] = -spec.mean[channel] / spec.std[channel];
  }
}

template <Element kElement>
DLA_AVX512 void WindowWriter::WriteRow(const uint8_t* row, char* pixels) const {
  constexpr int kPixels = 4;  // at a time
  constexpr int kBytes = CellBytes(kElement) / 8;
  const __m512 scale = _mm512_broadcast_f32x4(_mm_loadu_ps(scale_.data()));
  const __m512 offset = _mm512_broadcast_f32x4(_mm_loadu_ps(offset_.data()));
  const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
  const auto write = [&](int x, int count) DLA_AVX512 __attribute__((always_inline)) {
    const __m128i bytes =
        _mm_maskz_loadu_epi8(static_cast<__mmask16>((1U << 3 * count) - 1), row + 3 * x);
    const __m512 normalized = _mm512_fmadd_ps(
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_shuffle_epi8(bytes, spread))), scale, offset);
    StorePixels<kElement>(pixels + x * kBytes, count, normalized);
  };
  int x = 0;
  for (; x + kPixels <= width_; x += kPixels) write(x, kPixels);
  if (x < width_) write(x, width_ - x);
}

template <Element kElement>
DLA_AVX512 void WindowWriter::WriteRow(const float* row, char* pixels) const {
  constexpr int kPixels = 4;  // at a time
  constexpr int kBytes = CellBytes(kElement) / 8;
  const int64_t plane = int64_t{height_} * width_;
  const __m512i interleaved =
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int x = 0; x < width_; x += kPixels) {
    const int count = std::min(kPixels, width_ - x);
    const auto loaded = static_cast<__mmask8>((1U << count) - 1);
    __m512 planes = _mm512_zextps128_ps512(_mm_maskz_loadu_ps(loaded, row + x));
    planes = _mm512_insertf32x4(planes, _mm_maskz_loadu_ps(loaded, row + plane + x), 1);
    planes = _mm512_insertf32x4(planes, _mm_maskz_loadu_ps(loaded, row + 2 * plane + x), 2);
    StorePixels<kElement>(pixels + x * kBytes, count, _mm512_permutexvar_ps(interleaved, planes));
  }
}

template <Element kElement>
DLA_AVX512 void WindowWriter::WriteWindows(const PhotoInput& photo, int first, int end,
                                           char* target) const {
  constexpr int64_t kCellBytes = CellBytes(kElement);
  constexpr int kPixelBytes = kCellBytes / 8;
  // 3 zeros before the photo's pixels, 3 or more behind.
  std::vector<char> row((width_ + 10) * kPixelBytes);
  const PlaneGeometry to = geometry();
  for (int y = first; y < end; ++y) {
    char* const pixels = row.data() + 3 * kPixelBytes;
    if (photo.normalized != nullptr) {
      WriteRow<kElement>(photo.normalized + int64_t{y} * width_, pixels);
    } else {
      WriteRow<kElement>(photo.pixels + int64_t{y} * width_ * 3, pixels);
    }
    const char* window = row.data();
    char* cell = target + int64_t{y} * to.pitch() * kCellBytes;
    for (int x = 0; x < to.width; ++x, window += 2 * kPixelBytes, cell += kCellBytes) {
      for (int64_t byte = 0; byte < kCellBytes; byte += 64) {
        _mm512_store_si512(cell + byte, _mm512_loadu_si512(window + byte));
      }
    }
  }
}

void WindowWriter::Write(const PhotoInput& photo, int first, int end, char* target,
                         Element element) const {
  element == Element::kBf16 ? WriteWindows<Element::kBf16>(photo, first, end, target)
                            : WriteWindows<Element::kFloat32>(photo, first, end, target);
}

}  // namespace dla::cpu
