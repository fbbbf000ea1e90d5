#include "model/range_histogram.h"

#include <algorithm>
#include <cmath>

namespace dla {

void RangeHistogram::Grow(float value) {
  if (limit_ == 0) limit_ = std::ldexp(1.0F, std::ilogb(value) + 1);
  while (value >= limit_) {
    for (int i = 0; i < kBins / 2; ++i) bins_[i] = bins_[2 * i] + bins_[2 * i + 1];
    std::fill(bins_.begin() + kBins / 2, bins_.end(), 0);
    limit_ *= 2;
  }
}

void RangeHistogram::Add(absl::Span<const float> values) {
  float largest = 0;
  for (float value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  max_ = std::max(max_, largest);
  count_ += static_cast<int64_t>(values.size());
  if (largest == 0) {
    zeros_ += static_cast<int64_t>(values.size());
    return;
  }
  if (largest >= limit_) Grow(largest);
  const float to_bin = 1 / BinWidth();
  for (float value : values) {
    if (value == 0) {
      ++zeros_;
    } else if (std::isfinite(value)) {
      ++bins_[static_cast<int>(std::abs(value) * to_bin)];
    }
  }
}

void RangeHistogram::Merge(const RangeHistogram& other) {
  count_ += other.count_;
  zeros_ += other.zeros_;
  max_ = std::max(max_, other.max_);
  if (other.limit_ == 0) return;
  RangeHistogram rest = other;
  if (rest.limit_ > limit_) Grow(rest.limit_ / 2);
  if (limit_ > rest.limit_) rest.Grow(limit_ / 2);
  for (int i = 0; i < kBins; ++i) bins_[i] += rest.bins_[i];
}

float RangeHistogram::BestClip(int levels) const {
  constexpr int kCandidates = 100;
  float best = max_;
  double least = HUGE_VAL;
  for (int candidate = kCandidates; candidate >= 10; --candidate) {
    const float clip = max_ * static_cast<float>(candidate) / kCandidates;
    const double step = clip / static_cast<float>(levels);
    double error = 0;
    for (int i = 0; i < kBins; ++i) {
      if (bins_[i] == 0) continue;
      const double value = (i + 0.5) * BinWidth();
      const double off =
          value - std::min(std::nearbyint(value / step), static_cast<double>(levels)) * step;
      error += static_cast<double>(bins_[i]) * off * off * std::sqrt(std::abs(off));
    }
    if (error >= least) continue;
    least = error;
    best = clip;
  }
  return best;
}

}  // namespace dla
