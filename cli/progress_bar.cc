#include "cli/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace dla::cli {
namespace {

constexpr int64_t kFewPhotos = 4;
constexpr int kMaxBarColumns = 30;
constexpr int kMinBarColumns = 5;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);

double Rate(int64_t count, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

// "0:05", "12:34", "2:03:04".
std::string ClockText(double seconds) {
  const int64_t s = std::llround(std::min(seconds, 1e9));
  if (s < 3600) return absl::StrFormat("%d:%02d", s / 60, s % 60);
  return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

std::string RateText(double rate, const std::string& unit) {
  return absl::StrFormat("%.*f %s/s", rate < 100 ? 1 : 0, rate, unit);
}

}  // namespace

std::string ProgressText(const Progress& progress, int columns, bool utf8) {
  std::string text = absl::StrCat(progress.done, "/", progress.total);
  const std::string label = progress.label.empty() ? "" : absl::StrCat(progress.label, "  ");
  const double rate = Rate(progress.done, progress.elapsed);
  if (rate > 0) {
    const double left = static_cast<double>(progress.total - progress.done) / rate;
    absl::StrAppend(&text, "  ", RateText(rate, progress.unit), "  ", ClockText(left), " left");
  }
  if (progress.failed > 0) absl::StrAppend(&text, "  ", progress.failed, " failed");

  const int room = std::min(kMaxBarColumns, columns - DisplayWidth(label) - DisplayWidth(text) - 2);
  if (room < kMinBarColumns) return FitColumns(absl::StrCat(label, text), columns, "");
  const double share =
      progress.total > 0 ? static_cast<double>(progress.done) / static_cast<double>(progress.total)
                         : 1;
  const int full = static_cast<int>(std::floor(share * room));
  std::string bar;
  for (int i = 0; i < room; ++i)
    absl::StrAppend(&bar, i < full ? (utf8 ? "█" : "#") : (utf8 ? "░" : "."));
  return absl::StrCat(label, bar, "  ", text);
}

std::string SummaryText(const Progress& progress) {
  const int64_t answered = progress.done - progress.failed;
  return absl::StrFormat("%d photo%s in %.1f s, %s", answered, answered == 1 ? "" : "s",
                         absl::ToDoubleSeconds(progress.elapsed),
                         RateText(Rate(answered, progress.elapsed), progress.unit));
}

ProgressBar::ProgressBar(int64_t total, std::string label, std::string unit)
    : start_(absl::Now()),
      enabled_(total > kFewPhotos && DescribeTerminal(STDERR_FILENO).can_redraw) {
  progress_.total = total;
  progress_.label = std::move(label);
  progress_.unit = std::move(unit);
}

void ProgressBar::Hide() {
  if (visible_) WriteError("\r\x1b[K");
  visible_ = false;
}

void ProgressBar::Show(int64_t done, int64_t failed) {
  const absl::Time now = absl::Now();
  progress_.done = done;
  progress_.failed = failed;
  progress_.elapsed = now - start_;
  if (!enabled_ || (visible_ && now - drawn_ < kRedraw)) return;
  const Terminal terminal = DescribeTerminal(STDERR_FILENO);
  // The last column stays free: some terminals wrap when it is written.
  WriteError(
      absl::StrCat("\r", ProgressText(progress_, terminal.columns - 1, terminal.utf8), "\x1b[K"));
  visible_ = true;
  drawn_ = now;
}

}  // namespace dla::cli
