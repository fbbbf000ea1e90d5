#include "client/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace dla::client {
namespace {

constexpr double kMsPerUs = 1e-3;

}  // namespace

void LatencyHistogram::Record(std::chrono::nanoseconds latency) {
  const int64_t ns = std::max<int64_t>(latency.count(), 0);
  min_ns_ = count_ == 0 ? ns : std::min(min_ns_, ns);
  max_ns_ = std::max(max_ns_, ns);
  sum_ms_ += static_cast<double>(ns) * 1e-6;
  ++count_;
  ++buckets_[IndexOf(static_cast<uint64_t>(ns) / 1000)];
}

double LatencyHistogram::MeanMs() const {
  return count_ > 0 ? sum_ms_ / static_cast<double>(count_) : 0;
}

double LatencyHistogram::PercentileMs(double share) const {
  if (count_ == 0) return 0;
  const auto rank = static_cast<int64_t>(std::ceil(share * static_cast<double>(count_)));
  if (rank >= count_) return MaxMs();
  int64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= std::max<int64_t>(rank, 1)) return ValueMs(i);
  }
  return MaxMs();
}

int64_t LatencyHistogram::CountBetweenMs(double from, double to) const {
  int64_t count = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (buckets_[i] == 0) continue;
    const double value = ValueMs(i);
    if (value >= from && value < to) count += buckets_[i];
  }
  return count;
}

// The value without all but its first 8 bits, and how many bits that were.
size_t LatencyHistogram::IndexOf(uint64_t microseconds) {
  const int shift = std::max(0, static_cast<int>(std::bit_width(microseconds)) - 8);
  const size_t index = static_cast<size_t>(shift) * kHalf + (microseconds >> shift);
  return std::min(index, kBuckets - 1);
}

double LatencyHistogram::ValueMs(size_t index) const {
  const size_t shift = index < 2 * kHalf ? 0 : index / kHalf - 1;
  const auto lowest = static_cast<double>((index - shift * kHalf) << shift);
  const double middle = lowest + 0.5 * static_cast<double>(uint64_t{1} << shift);
  return std::clamp(middle * kMsPerUs, MinMs(), MaxMs());
}

}  // namespace dla::client
