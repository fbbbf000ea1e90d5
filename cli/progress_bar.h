// One line that shows how far a run over many photos has come.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace dla::cli {

struct Progress {
  int64_t done = 0;  // failed ones included
  int64_t failed = 0;
  int64_t total = 0;
  absl::Duration elapsed;
  std::string label;            // before everything else
  std::string unit = "images";  // what is counted
};

// "#########...........  37/100  12.3 images/s  0:05 left  2 failed", at most `columns` >= 20
// columns wide; blocks instead of '#' if `utf8`. The rate is the mean over the run so far.
std::string ProgressText(const Progress& progress, int columns, bool utf8);

// "100 photos in 8.1 s, 12.3 images/s": the mean over the photos that were answered.
std::string SummaryText(const Progress& progress);

// Draws on standard error, if that is a terminal and there are more than a few to count; otherwise
// nothing is ever drawn. Not thread-safe.
class ProgressBar {
 public:
  explicit ProgressBar(int64_t total, std::string label = "", std::string unit = "images");

  // Takes the bar off the screen, so that other text can be printed. It comes back with Show.
  void Hide();

  // Draws the bar, at most ten times a second unless it is hidden.
  void Show(int64_t done, int64_t failed);

  // What the bar would show, whether it is drawn or not.
  const Progress& progress() const { return progress_; }

 private:
  Progress progress_;
  const absl::Time start_;
  const bool enabled_;
  bool visible_ = false;
  absl::Time drawn_ = absl::InfinitePast();
};

}  // namespace dla::cli
