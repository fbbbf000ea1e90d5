#include "client/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace dla::client {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST(LatencyHistogramTest, OfNothingIsZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.PercentileMs(0.99), 0);
  EXPECT_EQ(histogram.MeanMs(), 0);
  EXPECT_EQ(histogram.MaxMs(), 0);
}

TEST(LatencyHistogramTest, PercentilesAreTheSmallestValueThatSoManyDoNotExceed) {
  LatencyHistogram histogram;
  for (int us = 100; us >= 1; --us) histogram.Record(microseconds(us));
  EXPECT_NEAR(histogram.PercentileMs(0.5), 0.050, 0.0005001);
  EXPECT_NEAR(histogram.PercentileMs(0.9), 0.090, 0.0005001);
  EXPECT_NEAR(histogram.PercentileMs(0.99), 0.099, 0.0005001);
  EXPECT_DOUBLE_EQ(histogram.PercentileMs(1), 0.1);
  EXPECT_NEAR(histogram.PercentileMs(0), 0.001, 0.0005001);
}

TEST(LatencyHistogramTest, RoundsTheRankUp) {
  LatencyHistogram histogram;
  for (int us = 10; us <= 30; us += 10) histogram.Record(microseconds(us));
  EXPECT_NEAR(histogram.PercentileMs(0.5), 0.020, 0.0005001);
  EXPECT_NEAR(histogram.PercentileMs(0.34), 0.020, 0.0005001);
}

TEST(LatencyHistogramTest, PercentilesAreWithinTheirBoundFromMicrosecondsToHours) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponent(3, 13.7);  // 1 us .. 14 h in nanoseconds
  LatencyHistogram histogram;
  std::vector<double> exact;
  for (int i = 0; i < 20000; ++i) {
    const nanoseconds latency(std::llround(std::pow(10, exponent(random))));
    histogram.Record(latency);
    exact.push_back(static_cast<double>(latency.count()) * 1e-6);
  }
  std::sort(exact.begin(), exact.end());
  for (const double share : {0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0}) {
    const double expected = exact[static_cast<size_t>(std::ceil(share * 20000)) - 1];
    EXPECT_NEAR(histogram.PercentileMs(share), expected, std::max(0.004 * expected, 0.0005001));
  }
}

TEST(LatencyHistogramTest, CountMeanMinAndMaxAreExact) {
  LatencyHistogram histogram;
  for (const int ns : {1'234'567, 7'654'321, 4'000'001}) histogram.Record(nanoseconds(ns));
  EXPECT_EQ(histogram.count(), 3);
  EXPECT_DOUBLE_EQ(histogram.MinMs(), 1.234567);
  EXPECT_DOUBLE_EQ(histogram.MaxMs(), 7.654321);
  EXPECT_NEAR(histogram.MeanMs(), 4.296296333, 1e-8);
}

TEST(LatencyHistogramTest, NeverTellsAPercentileOutsideWhatWasRecorded) {
  LatencyHistogram histogram;
  histogram.Record(nanoseconds(5'001'234));
  for (const double share : {0.0, 0.5, 0.99, 1.0}) {
    EXPECT_DOUBLE_EQ(histogram.PercentileMs(share), 5.001234);
  }
}

TEST(LatencyHistogramTest, TakesWhatIsBeyondItsRange) {
  LatencyHistogram histogram;
  histogram.Record(nanoseconds(-5));
  histogram.Record(nanoseconds::max());
  EXPECT_EQ(histogram.count(), 2);
  EXPECT_EQ(histogram.MinMs(), 0);
  EXPECT_EQ(histogram.CountBetweenMs(0, 1), 1);
}

TEST(LatencyHistogramTest, CountsBetweenBounds) {
  LatencyHistogram histogram;
  for (int ms = 1; ms <= 100; ++ms) histogram.Record(milliseconds(ms));
  EXPECT_EQ(histogram.CountBetweenMs(10.5, 20.5), 10);
  EXPECT_EQ(histogram.CountBetweenMs(0, 1000), 100);
  EXPECT_EQ(histogram.CountBetweenMs(200, 1000), 0);
}

}  // namespace
}  // namespace dla::client
