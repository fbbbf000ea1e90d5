#include "model/top_k.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dla {

namespace {

// exp(logit - largest) / sum, which never overflows.
class SoftmaxScale {
 public:
  explicit SoftmaxScale(absl::Span<const float> logits) {
    for (float logit : logits) {
      if (std::isfinite(logit)) largest_ = std::max(largest_, double{logit});
    }
    for (float logit : logits) {
      if (std::isfinite(logit)) sum_ += std::exp(logit - largest_);
    }
  }

  float ProbabilityOf(float logit) const {
    return std::isfinite(logit) ? static_cast<float>(std::exp(logit - largest_) / sum_) : 0;
  }

 private:
  double largest_ = -HUGE_VAL;
  double sum_ = 0;  // at least exp(0) where any logit is finite
};

}  // namespace

std::vector<ClassProbability> TopK(absl::Span<const float> logits, int k) {
  const SoftmaxScale softmax(logits);
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
    result.push_back({*index, softmax.ProbabilityOf(logits[*index])});
  }
  return result;
}

std::vector<float> Softmax(absl::Span<const float> logits) {
  const SoftmaxScale softmax(logits);
  std::vector<float> result;
  result.reserve(logits.size());
  for (float logit : logits) result.push_back(softmax.ProbabilityOf(logit));
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
