#include "client/histogram_text.h"

#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_split.h"
#include "cli/text.h"

namespace dla::client {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

cli::Terminal Columns(int columns, bool utf8) {
  return {.is_terminal = true, .utf8 = utf8, .columns = columns};
}

TEST(LatencyBinsTest, LieBetweenRoundNumbersWithoutGapsAndHoldEverything) {
  LatencyHistogram latencies;
  for (int ms = 3; ms <= 40; ++ms) latencies.Record(milliseconds(ms) + microseconds(50));
  const std::vector<LatencyBin> bins = LatencyBins(latencies, 20);
  ASSERT_EQ(bins.size(), 15u);  // of 24 for each factor of ten, 28 would be needed
  EXPECT_DOUBLE_EQ(bins.front().from_ms, 2.7);
  EXPECT_DOUBLE_EQ(bins[1].from_ms, 3.3);
  EXPECT_DOUBLE_EQ(bins.back().to_ms, 47);
  int64_t total = 0;
  double reached = bins.front().from_ms;
  for (const LatencyBin& bin : bins) {
    EXPECT_DOUBLE_EQ(bin.from_ms, reached);
    reached = bin.to_ms;
    total += bin.count;
  }
  EXPECT_EQ(total, 38);
}

TEST(LatencyBinsTest, GetCoarserUntilThereAreFewEnough) {
  LatencyHistogram latencies;
  latencies.Record(microseconds(2));
  latencies.Record(std::chrono::hours(10));
  const std::vector<LatencyBin> bins = LatencyBins(latencies, 20);
  ASSERT_EQ(bins.size(), 11u);
  EXPECT_DOUBLE_EQ(bins.front().from_ms, 0.001);
  EXPECT_EQ(bins.front().count, 1);
  EXPECT_EQ(bins.back().count, 1);
}

TEST(LatencyBinsTest, OfNothingAreNone) {
  EXPECT_TRUE(LatencyBins(LatencyHistogram(), 20).empty());
}

TEST(LatencyBinsTest, HoldWhatIsFasterThanAMicrosecond) {
  LatencyHistogram latencies;
  latencies.Record(std::chrono::nanoseconds(0));
  const std::vector<LatencyBin> bins = LatencyBins(latencies, 20);
  ASSERT_EQ(bins.size(), 1u);
  EXPECT_EQ(bins[0].count, 1);
}

TEST(HistogramTextTest, DrawsOneLineForEachBin) {
  const std::vector<LatencyBin> bins = {{8.2, 10, 750}, {10, 12, 250}, {12, 15, 0}, {15, 18, 1}};
  EXPECT_EQ(HistogramText(bins, Columns(50, false)),
            "  8.2 -  10 ms  ####################  750   74.9%\n"
            "   10 -  12 ms  #######               250   25.0%\n"
            "   12 -  15 ms                          0    0.0%\n"
            "   15 -  18 ms  #                       1    0.1%\n");
  EXPECT_EQ(HistogramText(bins, Columns(38, true)),
            "  8.2 –  10 ms  ████████  750   74.9%\n"
            "   10 –  12 ms  ██▋       250   25.0%\n"
            "   12 –  15 ms              0    0.0%\n"
            "   15 –  18 ms  ▏           1    0.1%\n");
}

TEST(HistogramTextTest, WritesBoundsOutFromMicrosecondsToHours) {
  LatencyHistogram latencies;
  for (int64_t us = 1; us < 100'000'000'000; us *= 10) latencies.Record(microseconds(2 * us));
  EXPECT_EQ(HistogramText(LatencyBins(latencies, 20), Columns(50, false)),
            "      0.001 -      0.01 ms  ##########  1    9.1%\n"
            "       0.01 -       0.1 ms  ##########  1    9.1%\n"
            "        0.1 -         1 ms  ##########  1    9.1%\n"
            "          1 -        10 ms  ##########  1    9.1%\n"
            "         10 -       100 ms  ##########  1    9.1%\n"
            "        100 -      1000 ms  ##########  1    9.1%\n"
            "       1000 -     10000 ms  ##########  1    9.1%\n"
            "      10000 -    100000 ms  ##########  1    9.1%\n"
            "     100000 -   1000000 ms  ##########  1    9.1%\n"
            "    1000000 -  10000000 ms  ##########  1    9.1%\n"
            "   10000000 - 100000000 ms  ##########  1    9.1%\n");
}

TEST(HistogramTextTest, FitsTheTerminal) {
  const std::vector<LatencyBin> bins = {{8.2, 10, 123456}, {1000, 1200, 17}};
  for (int columns = 50; columns <= 120; ++columns) {
    for (const absl::string_view line :
         absl::StrSplit(HistogramText(bins, Columns(columns, true)), '\n', absl::SkipEmpty())) {
      EXPECT_EQ(cli::DisplayWidth(line), columns - 1) << line;
    }
  }
}

TEST(ShortMsTest, KeepsThreeDigits) {
  EXPECT_EQ(ShortMs(0), "0.000");
  EXPECT_EQ(ShortMs(0.1234), "0.123");
  EXPECT_EQ(ShortMs(0.9996), "1.00");
  EXPECT_EQ(ShortMs(9.994), "9.99");
  EXPECT_EQ(ShortMs(9.996), "10.0");
  EXPECT_EQ(ShortMs(99.96), "100");
  EXPECT_EQ(ShortMs(12345.6), "12346");
}

}  // namespace
}  // namespace dla::client
