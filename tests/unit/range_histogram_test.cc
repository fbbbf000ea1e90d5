#include "model/range_histogram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dla {
namespace {

std::vector<float> Ramp(int count, float most) {
  std::vector<float> values;
  for (int i = 1; i <= count; ++i) values.push_back(most * static_cast<float>(i) / count);
  return values;
}

TEST(RangeHistogramTest, ClipsNothingThatIsSpreadEvenly) {
  RangeHistogram histogram;
  histogram.Add(Ramp(100'000, 3));
  EXPECT_NEAR(histogram.BestClip(255), 3, 0.05);
}

TEST(RangeHistogramTest, ClipsAFreakForTheSakeOfAllOthers) {
  RangeHistogram histogram;
  const std::vector<float> others = Ramp(1'000'000, 1);
  for (int i = 0; i < 50; ++i) histogram.Add(others);
  const float freak[] = {20};
  histogram.Add(freak);
  EXPECT_EQ(histogram.max(), 20);
  EXPECT_LT(histogram.BestClip(255), 10);
  EXPECT_GE(histogram.BestClip(255), 0.99);
}

TEST(RangeHistogramTest, CountsSizesWhateverTheSign) {
  RangeHistogram plus;
  RangeHistogram minus;
  std::vector<float> values = Ramp(10'000, 2);
  plus.Add(values);
  for (float& value : values) value = -value;
  minus.Add(values);
  EXPECT_EQ(plus.BestClip(127), minus.BestClip(127));
  EXPECT_EQ(minus.max(), 2);
}

TEST(RangeHistogramTest, IsTheSameInPiecesOfAnyOrder) {
  const std::vector<float> small = Ramp(50'000, 0.3F);
  const std::vector<float> large = Ramp(300, 7);
  RangeHistogram whole;
  whole.Add(small);
  whole.Add(large);
  RangeHistogram first;
  RangeHistogram second;
  first.Add(large);
  second.Add(small);
  RangeHistogram merged;
  merged.Merge(second);
  merged.Merge(first);
  EXPECT_EQ(merged.count(), whole.count());
  EXPECT_EQ(merged.max(), whole.max());
  EXPECT_NEAR(merged.BestClip(255), whole.BestClip(255), 0.02F);
}

TEST(RangeHistogramTest, HasNoRangeWhereAllIsZero) {
  RangeHistogram histogram;
  histogram.Add(std::vector<float>(100));
  RangeHistogram merged;
  merged.Merge(histogram);
  EXPECT_EQ(merged.BestClip(255), 0);
  EXPECT_EQ(merged.count(), 100);
}

TEST(RangeHistogramTest, PassesOverWhatIsNotFinite) {
  RangeHistogram histogram;
  const float infinity = std::numeric_limits<float>::infinity();
  histogram.Add(std::vector<float>{1, NAN, infinity, -infinity, 0.5F});
  EXPECT_EQ(histogram.max(), 1);
  EXPECT_NEAR(histogram.BestClip(255), 1, 0.01);
}

}  // namespace
}  // namespace dla
