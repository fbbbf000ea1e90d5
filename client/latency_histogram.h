// Latencies of any number of requests in a fixed amount of memory.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dla::client {

// Counts in buckets whose width grows with the value (128 of them for each doubling, as
// HdrHistogram does): a percentile is off by at most 0.4 % or half a microsecond, whichever is
// more. Count, mean, min and max are exact. Values below 0 count as 0, those above 19 hours as 19
// hours. 30 KB. Not thread-safe.
class LatencyHistogram {
 public:
  void Record(std::chrono::nanoseconds latency);

  int64_t count() const { return count_; }

  // Milliseconds; 0 while nothing is recorded.
  double MinMs() const { return static_cast<double>(min_ns_) * 1e-6; }
  double MaxMs() const { return static_cast<double>(max_ns_) * 1e-6; }
  double MeanMs() const;

  // The smallest latency that `share` (0 .. 1) of all do not exceed, in milliseconds; 0 while
  // nothing is recorded.
  double PercentileMs(double share) const;

  // How many latencies are in [from, to) milliseconds, to the precision of a percentile.
  int64_t CountBetweenMs(double from, double to) const;

 private:
  static constexpr int kDoublings = 29;  // above 256 us
  static constexpr size_t kHalf = 128;
  static constexpr size_t kBuckets = 2 * kHalf + kDoublings * kHalf;

  static size_t IndexOf(uint64_t microseconds);

  // The middle of a bucket, within what was recorded.
  double ValueMs(size_t index) const;

  std::array<int64_t, kBuckets> buckets_ = {};
  int64_t count_ = 0;
  double sum_ms_ = 0;
  int64_t min_ns_ = 0;
  int64_t max_ns_ = 0;
};

}  // namespace dla::client
