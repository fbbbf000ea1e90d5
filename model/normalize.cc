#include "model/normalize.h"

#include <bit>
#include <cstddef>

// The compiler makes one version for each kind of vector unit and picks at the start of the
// program; before ThreadSanitizer is there, though.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__)
#define DLA_VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DLA_VECTORISED
#endif

namespace dla {
namespace {

DLA_VECTORISED void RowToFloat32(const uint8_t* __restrict photo, const float* __restrict scale,
                                 const float* __restrict offset, size_t size,
                                 float* __restrict out) {
  for (size_t i = 0; i < size; ++i) out[i] = photo[i] * scale[i] + offset[i];
}

DLA_VECTORISED void RowToBfloat16(const uint8_t* __restrict photo, const float* __restrict scale,
                                  const float* __restrict offset, size_t size,
                                  uint16_t* __restrict out) {
  for (size_t i = 0; i < size; ++i) {
    const auto bits = std::bit_cast<uint32_t>(photo[i] * scale[i] + offset[i]);
    out[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

}  // namespace

NormalizeFactors::NormalizeFactors(const InputSpec& spec) {
  for (int channel = 0; channel < 3; ++channel) {
    scale[channel] = 1 / (255 * spec.std[channel]);
    offset[channel] = -spec.mean[channel] / spec.std[channel];
  }
}

Normalizer::Normalizer(const InputSpec& spec) : rows_(spec.height) {
  const NormalizeFactors factors(spec);
  for (int column = 0; column < spec.width; ++column) {
    for (int channel = 0; channel < 3; ++channel) {
      scale_.push_back(factors.scale[channel]);
      offset_.push_back(factors.offset[channel]);
    }
  }
}

void Normalizer::ToFloat32(const uint8_t* photo, float* out) const {
  const size_t size = scale_.size();
  for (int row = 0; row < rows_; ++row, photo += size, out += size) {
    RowToFloat32(photo, scale_.data(), offset_.data(), size, out);
  }
}

void Normalizer::ToBfloat16(const uint8_t* photo, uint16_t* out) const {
  const size_t size = scale_.size();
  for (int row = 0; row < rows_; ++row, photo += size, out += size) {
    RowToBfloat16(photo, scale_.data(), offset_.data(), size, out);
  }
}

}  // namespace dla
