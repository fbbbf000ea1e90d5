#include "client/histogram_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text.h"
#include "client/result_format.h"

namespace dla::client {
namespace {

// The preferred numbers E24 of IEC 60063; every second is E12, every fourth E6, every eighth E3.
constexpr std::array<int, 24> kE24 = {10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30,
                                      33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91};

// The lower bound number `index` of the division that takes every `step`-th of E24; bound 0 is 1
// ms.
double Bound(int index, int step) {
  const int per_decade = static_cast<int>(kE24.size()) / step;
  const int decade = static_cast<int>(std::floor(static_cast<double>(index) / per_decade));
  const int digit = kE24[(index - decade * per_decade) * step];
  return digit * std::pow(10.0, decade - 1);
}

// The bin that holds `value`, which is moved up to a microsecond.
int IndexOf(double value, int step) {
  const int per_decade = static_cast<int>(kE24.size()) / step;
  const double v = std::max(value, 1e-3);
  int index = static_cast<int>(std::floor(std::log10(v) * per_decade));
  while (Bound(index, step) > v) --index;
  while (Bound(index + 1, step) <= v) ++index;
  return index;
}

// Bounds have two digits that matter.
std::string BoundText(double milliseconds) {
  return milliseconds < 100 ? absl::StrFormat("%.2g", milliseconds)
                            : absl::StrFormat("%.0f", milliseconds);
}

}  // namespace

std::vector<LatencyBin> LatencyBins(const LatencyHistogram& latencies, int max_bins) {
  std::vector<LatencyBin> bins;
  if (latencies.count() == 0) return bins;
  for (const int step : {1, 2, 4, 8, 24}) {
    const int first = IndexOf(latencies.MinMs(), step);
    const int last = IndexOf(latencies.MaxMs(), step);
    if (step < 24 && last - first + 1 > max_bins) continue;
    for (int i = first; i <= last; ++i) {
      const double from = Bound(i, step);
      const double to = Bound(i + 1, step);
      // Whatever is faster than a microsecond counts with the first.
      bins.push_back({from, to, latencies.CountBetweenMs(i == first ? 0 : from, to)});
    }
    break;
  }
  // What lies next to a bound may count on its other side.
  while (bins.size() > 1 && bins.back().count == 0) bins.pop_back();
  while (bins.size() > 1 && bins.front().count == 0) bins.erase(bins.begin());
  return bins;
}

std::string HistogramText(const std::vector<LatencyBin>& bins, const cli::Terminal& terminal) {
  int64_t total = 0;
  int64_t most = 1;
  int bound_columns = 1;
  for (const LatencyBin& bin : bins) {
    total += bin.count;
    most = std::max(most, bin.count);
    bound_columns = std::max(bound_columns, cli::DisplayWidth(BoundText(bin.to_ms)));
    bound_columns = std::max(bound_columns, cli::DisplayWidth(BoundText(bin.from_ms)));
  }
  const int count_columns = static_cast<int>(absl::StrCat(most).size());
  // "  12 - 15 ms  BAR  1234  12.3%", and the last column stays free.
  const int taken = 2 + bound_columns + 3 + bound_columns + 3 + 2 + 2 + count_columns + 2 + 6 + 1;
  const int bar_columns = std::clamp(terminal.columns - taken, 8, 100);
  const float smallest = 1.0f / static_cast<float>(bar_columns * (terminal.utf8 ? 8 : 1));
  std::string text;
  for (const LatencyBin& bin : bins) {
    const float share = static_cast<float>(bin.count) / static_cast<float>(most);
    const std::string bar =
        ShareBar(bin.count > 0 ? std::max(share, smallest) : 0, bar_columns, terminal.utf8);
    absl::StrAppendFormat(&text, "  %*s %s %*s ms  %s  %*d  %5.1f%%\n", bound_columns,
                          BoundText(bin.from_ms), terminal.utf8 ? "–" : "-", bound_columns,
                          BoundText(bin.to_ms), bar, count_columns, bin.count,
                          100 * static_cast<double>(bin.count) / static_cast<double>(total));
  }
  return text;
}

std::string ShortMs(double milliseconds) {
  const int decimals = milliseconds < 0.9995  ? 3
                       : milliseconds < 9.995 ? 2
                       : milliseconds < 99.95 ? 1
                                              : 0;
  return absl::StrFormat("%.*f", decimals, milliseconds);
}

}  // namespace dla::client
