#include "model/top_k.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dla {

std::vector<ClassProbability> TopK(absl::Span<const float> logits, int k) {
  double largest = -HUGE_VAL;
  for (float logit : logits) {
    if (std::isfinite(logit)) largest = std::max(largest, double{logit});
  }
  double sum = 0;  // at least exp(0) where any logit is finite
  for (float logit : logits) {
    if (std::isfinite(logit)) sum += std::exp(logit - largest);
  }

  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto top = order.begin() + std::min(logits.size(), static_cast<size_t>(std::max(k, 0)));
  std::partial_sort(order.begin(), top, order.end(), [&](int a, int b) {
    const bool a_counts = std::isfinite(logits[a]);
    const bool b_counts = std::isfinite(logits[b]);
    if (a_counts != b_counts) return a_counts;
    if (a_counts && logits[a] != logits[b]) return logits[a] > logits[b];
    return a < b;
  });

  std::vector<ClassProbability> result;
  result.reserve(top - order.begin());
  for (auto index = order.begin(); index != top; ++index) {
    const float logit = logits[*index];
    const double probability = std::isfinite(logit) ? std::exp(logit - largest) / sum : 0;
    result.push_back({*index, static_cast<float>(probability)});
  }
  return result;
}

void NormalizeL2(absl::Span<float> vector) {
  double sum = 0;
  for (float value : vector) sum += double{value} * value;
  if (sum == 0 || !std::isfinite(sum)) return;
  const double scale = 1 / std::sqrt(sum);
  for (float& value : vector) value = static_cast<float>(value * scale);
}

}  // namespace dla
