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
  for (float value : values) largest = std::max(largest, std::abs(value));
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
    } else {
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

float RangeHistogram::Percentile(double share) const {
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(count_)));
  int64_t seen = zeros_;
  for (int i = 0; i < kBins; ++i) {
    seen += bins_[i];
    if (seen >= wanted && seen > zeros_) {
      return std::min(static_cast<float>(i + 1) * BinWidth(), max_);
    }
  }
  return max_;
}

float RangeHistogram::LeastErrorClip(int levels) const {
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
      const double rounded =
          std::min(std::nearbyint(value / step), static_cast<double>(levels)) * step;
      error += static_cast<double>(bins_[i]) * (value - rounded) * (value - rounded);
    }
    if (error >= least) continue;
    least = error;
    best = clip;
  }
  return best;
}

float RangeHistogram::LeastDivergenceClip(int levels) const {
  const int filled = std::min(kBins, static_cast<int>(std::ceil(max_ / BinWidth())));
  float best = max_;
  double least = HUGE_VAL;
  for (int bins = filled; bins >= levels && bins >= filled / 10; bins -= std::max(1, filled / 100)) {
    // What is above the clip falls into the last bin of the real distribution, not of the rounded.
    double total = 0;
    double above = 0;
    for (int i = 0; i < kBins; ++i) {
      (i < bins ? total : above) += static_cast<double>(bins_[i]);
    }
    double divergence = 0;
    for (int level = 0; level < levels; ++level) {
      const int begin = static_cast<int>(static_cast<int64_t>(level) * bins / levels);
      const int end = static_cast<int>(static_cast<int64_t>(level + 1) * bins / levels);
      double sum = 0;
      int used = 0;
      for (int i = begin; i < end; ++i) {
        sum += static_cast<double>(bins_[i]);
        used += bins_[i] > 0 ? 1 : 0;
      }
      if (used == 0) continue;
      const double q = sum / used / total;
      for (int i = begin; i < end; ++i) {
        if (bins_[i] == 0) continue;
        const double real = static_cast<double>(bins_[i]) + (i == bins - 1 ? above : 0);
        const double p = real / (total + above);
        divergence += p * std::log(p / q);
      }
    }
    if (divergence >= least) continue;
    least = divergence;
    best = std::min(static_cast<float>(bins) * BinWidth(), max_);
  }
  return best;
}

}  // namespace dla
