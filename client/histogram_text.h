// A histogram of latencies for people and for programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/terminal.h"
#include "client/latency_histogram.h"

namespace dla::client {

// Latencies in [from_ms, to_ms).
struct LatencyBin {
  double from_ms = 0;
  double to_ms = 0;
  int64_t count = 0;
};

// Bins between round numbers, each so many times as wide as the one before, without gaps, from the
// first to the last that holds anything: the finest division (24, 12, 6, 3 or 1 bins for each
// factor of ten) that needs at most `max_bins`, which even the coarsest may exceed. Empty while
// nothing is recorded.
std::vector<LatencyBin> LatencyBins(const LatencyHistogram& latencies, int max_bins);

// One line for each bin, as wide as the terminal:
//     10 - 12    ms  ##########        314  31.4%
// Whatever is not empty shows at least the smallest bar.
std::string HistogramText(const std::vector<LatencyBin>& bins, const cli::Terminal& terminal);

// "0.123", "1.23", "12.3", "123", "12345": three digits, or all of the whole milliseconds.
std::string ShortMs(double milliseconds);

}  // namespace dla::client
