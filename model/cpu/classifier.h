// The last layer of a network.
#pragma once

#include "absl/types/span.h"

namespace dla::cpu {

// logits[photo][c] = weight[c] . features[photo] + bias[c]
//   features: [photos, F], F a multiple of 32; weight: [classes, F]; bias: [classes]
// Needs AVX-512.
void Classify(const float* features, int photos, absl::Span<const float> weight,
              absl::Span<const float> bias, float* logits);

}  // namespace dla::cpu
