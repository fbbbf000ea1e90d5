#include "cli/progress_bar.h"

#include <gtest/gtest.h>

#include "cli/text.h"

namespace dla::cli {
namespace {

Progress At(int64_t done, int64_t failed, int64_t total, absl::Duration elapsed) {
  return {.done = done, .failed = failed, .total = total, .elapsed = elapsed};
}

TEST(ProgressTextTest, TellsCountRateTimeLeftAndFailures) {
  EXPECT_EQ(ProgressText(At(40, 2, 100, absl::Seconds(10)), 79, false),
            "############..................  40/100  4.0 images/s  0:15 left  2 failed");
}

TEST(ProgressTextTest, LeavesOutWhatIsNotKnownYet) {
  EXPECT_EQ(ProgressText(At(0, 0, 100, absl::ZeroDuration()), 79, false),
            "..............................  0/100");
}

TEST(ProgressTextTest, DrawsBlocksInUtf8) {
  EXPECT_EQ(ProgressText(At(1, 0, 2, absl::Seconds(1)), 36, true),
            "███░░░  1/2  1.0 images/s  0:01 left");
}

TEST(ProgressTextTest, NeverTakesMoreThanTheColumnsGiven) {
  for (int columns = 20; columns < 120; ++columns) {
    const std::string text = ProgressText(At(123456, 789, 9999999, absl::Hours(3)), columns, false);
    EXPECT_LE(DisplayWidth(text), columns) << text;
  }
}

TEST(ProgressTextTest, SaysWhatIsDoneAndCounted) {
  Progress progress = At(1, 0, 2, absl::Seconds(1));
  progress.label = "scan";
  progress.unit = "layers";
  EXPECT_EQ(ProgressText(progress, 42, false), "scan  ###...  1/2  1.0 layers/s  0:01 left");
  EXPECT_EQ(ProgressText(progress, 36, false), "scan  1/2  1.0 layers/s  0:01 left");
}

TEST(ProgressTextTest, TellsHours) {
  EXPECT_EQ(ProgressText(At(1, 0, 3, absl::Hours(1)), 36, false),
            "1/3  0.0 images/s  2:00:00 left");
}

TEST(SummaryTextTest, CountsAnsweredPhotos) {
  EXPECT_EQ(SummaryText(At(100, 20, 100, absl::Seconds(4))), "80 photos in 4.0 s, 20.0 images/s");
  EXPECT_EQ(SummaryText(At(1, 0, 1, absl::Milliseconds(100))), "1 photo in 0.1 s, 10.0 images/s");
  EXPECT_EQ(SummaryText(At(0, 0, 9, absl::ZeroDuration())), "0 photos in 0.0 s, 0.0 images/s");
  EXPECT_EQ(SummaryText(At(5000, 0, 5000, absl::Seconds(4))),
            "5000 photos in 4.0 s, 1250 images/s");
}

}  // namespace
}  // namespace dla::cli
