#include "model/cpu/classifier.h"

#include <immintrin.h>

#include <cstddef>

#define DLA_AVX512 __attribute__((target("avx512f,fma")))

namespace dla::cpu {

// Weights are read once for all photos: a thousand classes' are more than the cache holds.
DLA_AVX512 void Classify(const float* features, int photos, absl::Span<const float> weight,
                         absl::Span<const float> bias, float* logits) {
  const size_t count = weight.size() / bias.size();
  for (size_t c = 0; c < bias.size(); ++c) {
    const float* const row = weight.data() + c * count;
    for (int photo = 0; photo < photos; ++photo) {
      const float* const x = features + photo * count;
      __m512 even = _mm512_setzero_ps();
      __m512 odd = _mm512_setzero_ps();
      for (size_t i = 0; i < count; i += 32) {
        even = _mm512_fmadd_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(x + i), even);
        odd = _mm512_fmadd_ps(_mm512_loadu_ps(row + i + 16), _mm512_loadu_ps(x + i + 16), odd);
      }
      logits[photo * bias.size() + c] = _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) + bias[c];
    }
  }
}

}  // namespace dla::cpu
