#include "benchmarks/serving/load_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "client/arrivals.h"

namespace dla::bench {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// Answers everything at once from a thread of its own.
class FakeTarget final : public LoadTarget {
 public:
  explicit FakeTarget(absl::StatusOr<Answer> answer) : answer_(std::move(answer)) {}

  ~FakeTarget() override {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Send(size_t photo, Done done) override {
    {
      const std::lock_guard lock(mutex_);
      photos_.push_back(photo);
      waiting_.push_back(std::move(done));
      most_ = std::max(most_, waiting_.size());
    }
    changed_.notify_all();
  }

  size_t most_in_flight() const { return most_; }
  const std::vector<size_t>& photos() const { return photos_; }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const Done done = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      done(answer_);
      lock.lock();
    }
  }

  const absl::StatusOr<Answer> answer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Done> waiting_;
  std::vector<size_t> photos_;
  size_t most_ = 0;
  bool ended_ = false;
  std::thread thread_{[this] { Work(); }};
};

Answer Classes(int count) { return Answer(count, Candidate{1, "rose", 0.2}); }

TEST(LoadRunTest, ClosedLoopKeepsSoManyRequestsInFlight) {
  FakeTarget target(Classes(kTopK));
  const LoadResult result =
      RunLoad(target, {.in_flight = 4, .warm_up_s = 0, .seconds = 0.1}, LoadObserver());
  EXPECT_EQ(target.most_in_flight(), 4u);
  EXPECT_EQ(result.errors, 0);
  EXPECT_EQ(result.samples.size(), target.photos().size());
  EXPECT_GT(result.samples.size(), 4u);
}

TEST(LoadRunTest, SendsThePhotosInTurn) {
  FakeTarget target(Classes(kTopK));
  RunLoad(target, {.in_flight = 1, .warm_up_s = 0, .seconds = 0.05}, LoadObserver());
  std::vector<size_t> in_turn(target.photos().size());
  std::iota(in_turn.begin(), in_turn.end(), 0);
  EXPECT_EQ(target.photos(), in_turn);
}

TEST(LoadRunTest, OpenLoopSendsEveryRequestThatIsDue) {
  FakeTarget target(Classes(kTopK));
  const LoadPlan plan = {.rate = 2000, .seed = 7, .warm_up_s = 0.05, .seconds = 0.1};
  const LoadResult result = RunLoad(target, plan, LoadObserver());
  client::ArrivalSchedule arrivals(client::Arrivals::kPoisson, 2000, 7);
  size_t due = 0;
  while (arrivals.Next() < milliseconds(150)) ++due;
  EXPECT_EQ(result.samples.size(), due);
  for (const Sample& sample : result.samples) EXPECT_GE(sample.done, sample.due);
}

TEST(LoadRunTest, GivesUpAfterAHundredErrors) {
  FakeTarget target(absl::UnavailableError("nobody there"));
  const LoadResult closed =
      RunLoad(target, {.in_flight = 2, .warm_up_s = 0, .seconds = 3600}, LoadObserver());
  EXPECT_GE(closed.errors, 100);
  EXPECT_LE(closed.errors, 102);
  EXPECT_THAT(closed.first_error, HasSubstr("nobody there"));
  const LoadResult open =
      RunLoad(target, {.rate = 1e5, .warm_up_s = 5, .seconds = 1}, LoadObserver());
  EXPECT_GE(open.errors, 100);
}

TEST(LoadRunTest, CountsAnAnswerWithTooFewClassesAsAnError) {
  FakeTarget target(Classes(kTopK - 1));
  const LoadResult result =
      RunLoad(target, {.in_flight = 1, .warm_up_s = 0, .seconds = 3600}, LoadObserver());
  EXPECT_TRUE(result.samples.empty());
  EXPECT_THAT(result.first_error, HasSubstr("4 classes instead of 5"));
}

TEST(LoadRunTest, TellsTheObserverWhenMeasuringBeginsAndEnds) {
  FakeTarget target(Classes(kTopK));
  std::string seen;
  LoadObserver observer;
  observer.begin = [&] { seen += 'b'; };
  observer.sample = [&] { seen += 's'; };
  observer.end = [&] { seen += 'e'; };
  RunLoad(target, {.in_flight = 1, .warm_up_s = 0, .seconds = 0.02}, observer);
  EXPECT_EQ(seen, "bse");
}

// One request for each (due, done), in milliseconds; 10 to 20 are measured.
LoadResult Result(std::initializer_list<std::pair<int, int>> requests) {
  LoadResult result;
  const Clock::time_point zero;
  for (const auto& [due, done] : requests) {
    result.samples.push_back(
        {zero + milliseconds(due), zero + milliseconds(due), zero + milliseconds(done)});
  }
  result.begin = zero + milliseconds(10);
  result.end = zero + milliseconds(20);
  return result;
}

TEST(LoadSummaryTest, ClosedLoopCountsWhatWasAnsweredInTheMeasuredTime) {
  const LoadSummary summary =
      Summarize(Result({{2, 9}, {5, 10}, {12, 19}, {15, 20}}), /*open_loop=*/false);
  EXPECT_EQ(summary.images, 2);
  EXPECT_DOUBLE_EQ(summary.images_per_second, 200);
  EXPECT_DOUBLE_EQ(summary.max_ms, 7);
}

TEST(LoadSummaryTest, OpenLoopCountsWhatWasDueInTheMeasuredTimeHoweverLateTheAnswer) {
  const LoadSummary summary = Summarize(Result({{9, 15}, {10, 11}, {19, 500}, {20, 21}}), true);
  EXPECT_EQ(summary.images, 2);
  EXPECT_DOUBLE_EQ(summary.max_ms, 481);
}

TEST(LoadSummaryTest, PercentilesAreTheSmallestValueThatSoManyDoNotExceed) {
  LoadResult result = Result({});
  for (int ms = 100; ms >= 1; --ms) {
    result.samples.push_back({result.begin, result.begin, result.begin + milliseconds(ms)});
  }
  const LoadSummary summary = Summarize(result, true);
  EXPECT_DOUBLE_EQ(summary.p50_ms, 50);
  EXPECT_DOUBLE_EQ(summary.p90_ms, 90);
  EXPECT_DOUBLE_EQ(summary.p99_ms, 99);
  EXPECT_DOUBLE_EQ(summary.max_ms, 100);
}

TEST(LoadSummaryTest, OfNothingIsZero) {
  const LoadSummary summary = Summarize(Result({}), false);
  EXPECT_EQ(summary.images, 0);
  EXPECT_EQ(summary.p99_ms, 0);
}

}  // namespace
}  // namespace dla::bench
