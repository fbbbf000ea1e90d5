#include "client/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace dla::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// All times before `end`, in seconds.
std::vector<double> Times(ArrivalSchedule schedule, nanoseconds end) {
  std::vector<double> times;
  for (nanoseconds t = schedule.Next(); t < end; t = schedule.Next()) {
    times.push_back(std::chrono::duration<double>(t).count());
  }
  return times;
}

TEST(ArrivalScheduleTest, ConstantArrivalsComeAtOnceAndAtEqualDistances) {
  ArrivalSchedule schedule(Arrivals::kConstant, 8, 1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(schedule.Next(), milliseconds(125) * i);
}

TEST(ArrivalScheduleTest, ConstantArrivalsDoNotDrift) {
  ArrivalSchedule schedule(Arrivals::kConstant, 3, 1);
  nanoseconds last{0};
  for (int i = 0; i <= 3'000'000; ++i) last = schedule.Next();
  EXPECT_EQ(last, std::chrono::seconds(1'000'000));
}

TEST(ArrivalScheduleTest, PoissonArrivalsRiseAndHaveTheRateAndTheSpreadOfAPoissonProcess) {
  const auto hour = std::chrono::seconds(1000);
  const std::vector<double> times = Times({Arrivals::kPoisson, 100, 1}, hour);
  EXPECT_NEAR(static_cast<double>(times.size()), 1e5, 1500);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  double squares = 0;  // the mean of a squared gap is 2 / rate^2
  for (size_t i = 1; i < times.size(); ++i) {
    squares += (times[i] - times[i - 1]) * (times[i] - times[i - 1]);
  }
  EXPECT_NEAR(squares / static_cast<double>(times.size()), 2e-4, 1e-5);
  EXPECT_EQ(Times({Arrivals::kPoisson, 100, 1}, hour), times);
  EXPECT_NE(Times({Arrivals::kPoisson, 100, 2}, hour), times);
}

TEST(ArrivalScheduleTest, NeverOverflows) {
  ArrivalSchedule schedule(Arrivals::kConstant, 1e-12, 1);
  schedule.Next();
  EXPECT_EQ(schedule.Next(), std::chrono::seconds(1'000'000'000));
}

}  // namespace
}  // namespace dla::client
