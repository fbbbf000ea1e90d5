// From logits to the answer: softmax, the k most probable classes, unit-length embeddings.
#pragma once

#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace dla {

struct ClassProbability {
  int index;
  float probability;
};

// The min(k, logits.size()) most probable classes, most probable first, ties by lower index.
// Probabilities are the softmax over all logits. Non-finite logits sort last and count as 0. k >=
// 0.
std::vector<ClassProbability> TopK(absl::Span<const float> logits, int k);

// The probabilities of TopK for all classes, in the order of the logits.
std::vector<float> Softmax(absl::Span<const float> logits);

// Scales `vector` to L2 length 1 in place; a zero vector stays zero.
void NormalizeL2(absl::Span<float> vector);

}  // namespace dla
