#include "server/model_speed.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"

namespace dla::server {
namespace {

// A photo takes 10 ms of time that all threads share: as on a machine with one core.
class TimedModel : public FakeModel {
 public:
  explicit TimedModel(FakeClock& clock) : clock_(clock) {}

  void PrepareThread(int compute_threads) const override {
    MutexLock lock(mu_);
    threads_.push_back(compute_threads);
  }

  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override {
    clock_.Advance(std::chrono::milliseconds(10) * photos.size());
    return FakeModel::Run(photos, output);
  }

  std::vector<int> threads() const {
    MutexLock lock(mu_);
    return threads_;
  }

 private:
  FakeClock& clock_;
  mutable Mutex mu_;
  mutable std::vector<int> threads_ ABSL_GUARDED_BY(mu_);
};

class ModelSpeedTest : public ::testing::Test {
 protected:
  // As if the threads had `cpu_share` of a processor each.
  absl::StatusOr<Speed> Measure(const Share& share, double cpu_share = 1, double cpus = 64) {
    const TimePoint start = clock_.Now();
    return MeasureSpeed(
        model_, share,
        {.cpus = cpus,
         .thread_cpu_time =
             [this, start, cpu_share] {
               return std::chrono::duration_cast<Duration>((clock_.Now() - start) * cpu_share);
             }},
        clock_);
  }

  FakeClock clock_;
  TimedModel model_{clock_};
};

TEST_F(ModelSpeedTest, CountsThePhotosOfOneReplica) {
  const absl::StatusOr<Speed> speed = Measure({.replicas = 1, .threads = 1, .max_batch = 4});
  ASSERT_TRUE(speed.ok());
  EXPECT_NEAR(speed->photos_per_second, 100, 1e-6);
  EXPECT_NEAR(speed->batch_seconds, 0.040, 1e-9);
}

TEST_F(ModelSpeedTest, WarmsUpThenRunsTwiceOrForItsTime) {
  ASSERT_TRUE(Measure({.replicas = 1, .threads = 1, .max_batch = 8}).ok());
  EXPECT_EQ(model_.batches(), std::vector<int>({8, 8, 8}));
  ASSERT_TRUE(Measure({.replicas = 1, .threads = 1, .max_batch = 1}).ok());
  EXPECT_EQ(model_.batches().size(), 3u + 3 + 6);  // 10 ms each: 25 ms and 60 ms
}

TEST_F(ModelSpeedTest, RunsAllReplicasAtTheSameTimeWithTheirThreads) {
  const absl::StatusOr<Speed> speed = Measure({.replicas = 4, .threads = 3, .max_batch = 2});
  ASSERT_TRUE(speed.ok());
  EXPECT_EQ(model_.threads(), std::vector<int>({3, 3, 3, 3}));
  // Together as fast as one: they share the time. Who ends last runs alone for a moment.
  EXPECT_GT(speed->photos_per_second, 50);
  EXPECT_LT(speed->photos_per_second, 250);
}

TEST_F(ModelSpeedTest, TellsWhetherTheProcessorsWereFree) {
  const Share share = {.replicas = 1, .threads = 1, .max_batch = 4};
  EXPECT_FALSE(Measure(share, 0.95)->disturbed);
  EXPECT_TRUE(Measure(share, 0.6)->disturbed);
  // A quota of half a processor gives no more than that.
  EXPECT_FALSE(Measure(share, 0.5, 0.5)->disturbed);
  // Of several compute threads some wait, so nothing can be told.
  EXPECT_FALSE(Measure({.replicas = 1, .threads = 2, .max_batch = 4}, 0.6)->disturbed);
}

TEST_F(ModelSpeedTest, PassesOnWhyTheModelFailed) {
  model_.FailWith(absl::ResourceExhaustedError("out of memory"));
  EXPECT_EQ(Measure({.replicas = 3, .threads = 1, .max_batch = 4}).status(),
            absl::ResourceExhaustedError("out of memory"));
}

TEST(RealModelSpeedTest, TakesItsTimeOnTheMachinesClockToo) {
  const FakeModel model;
  const absl::StatusOr<Speed> speed = MeasureSpeed(
      model, {.replicas = 2, .threads = 1, .max_batch = 4},
      {.least = std::chrono::milliseconds(5), .warm_up = std::chrono::milliseconds(1), .cpus = 2},
      Clock::Real());
  ASSERT_TRUE(speed.ok());
  EXPECT_GT(speed->photos_per_second, 0);
}

}  // namespace
}  // namespace dla::server
