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
  // Passes over what is not finite.
  void Add(absl::Span<const float> values);
  void Merge(const RangeHistogram& other);

  int64_t count() const { return count_; }
  float max() const { return max_; }

  // The clip, at most max(), with which rounding to multiples of clip / levels does least harm.
  // Values above it lose what is above, all others gain. The harm of an error grows with its power
  // of 2.5: with squares, few large values, which tell one photo from another, are lost for the
  // sake of many small ones. docs/int8.md compares.
  float BestClip(int levels) const;

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
