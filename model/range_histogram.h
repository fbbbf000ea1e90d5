// How large the values are that a network computes, and with which step to round them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dla {

// Counts magnitudes, so that signs make no difference. Memory does not grow.
class RangeHistogram {
 public:
  void Add(absl::Span<const float> values);
  void Merge(const RangeHistogram& other);

  int64_t count() const { return count_; }
  float max() const { return max_; }

  // What so large a share of all magnitudes does not exceed; `share` in (0, 1].
  float Percentile(double share) const;

  // The clip, at most max(), with which rounding to clip / levels makes the least mean square
  // error: values above it lose more, all others less.
  float LeastErrorClip(int levels) const;

  // The clip with which the distribution of what is rounded says most of the real one
  // (Kullback-Leibler divergence), as TensorRT's calibration chooses it.
  float LeastDivergenceClip(int levels) const;

 private:
  static constexpr int kBins = 8192;

  void Grow(float value);
  float BinWidth() const { return limit_ / kBins; }

  std::vector<int64_t> bins_ = std::vector<int64_t>(kBins);
  float limit_ = 0;  // where the last bin ends, a power of two; 0: nothing but zeros so far
  int64_t zeros_ = 0;
  int64_t count_ = 0;
  float max_ = 0;
};

}  // namespace dla
