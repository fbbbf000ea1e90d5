#include "server/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/fake_clock.h"

namespace dla::server {
namespace {

// A machine of which a test decides how fast it is. Measuring takes as long as it would.
class Machine {
 public:
  // Seconds of one forward pass while all replicas run.
  using Cost = std::function<double(const Share&)>;
  explicit Machine(Cost cost) : cost_(std::move(cost)) {}

  Calibration Calibrate(const CalibrationOptions& options) {
    auto result = server::Calibrate(
        options, [this](const Share& share) { return Measure(share); }, clock_);
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  absl::StatusOr<Speed> Measure(const Share& share) {
    measured_.push_back(share);
    const double seconds = cost_(share);
    const double window = std::max(0.06, 2 * seconds);
    clock_.Advance(
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds + window)));
    return Speed{.photos_per_second = share.replicas * share.max_batch / seconds,
                 .batch_seconds = seconds};
  }

  const std::vector<Share>& measured() const { return measured_; }

 private:
  const Cost cost_;
  FakeClock clock_;
  std::vector<Share> measured_;
};

// Photos of `photo` seconds each, and so much more for each batch; `efficiency` is what each thread
// after a replica's first adds.
Machine::Cost Linear(double photo, double batch, double efficiency) {
  return [=](const Share& share) {
    return batch + photo * share.max_batch / (1 + efficiency * (share.threads - 1));
  };
}

TEST(CalibrationTest, TakesOneThreadForEachReplicaWhereThreadsShareTheWorkBadly) {
  for (const int cores : {1, 2, 3, 8, 64}) {
    const Calibration found = Machine(Linear(0.006, 0, 0.7)).Calibrate({.cores = cores});
    EXPECT_EQ(found.share.replicas, cores);
    EXPECT_EQ(found.share.threads, 1);
  }
}

TEST(CalibrationTest, DoesNotTakeMoreThreadsForAHairOfAdvantage) {
  // Replicas slow each other down so much that one replica of two threads is 4 % faster, then 10 %.
  for (const auto& [advantage, replicas] : {std::pair(1.04, 2), std::pair(1.10, 1)}) {
    Machine machine([advantage = advantage](const Share& share) {
      const double photo = share.replicas * share.threads == 1 ? 0.010 : 0.005 * share.replicas;
      return photo * share.max_batch * (share.threads == 1 ? advantage : 1);
    });
    EXPECT_EQ(machine.Calibrate({.cores = 2}).share.replicas, replicas);
  }
}

TEST(CalibrationTest, TakesHalfOfTheCoresWhereTwoOfThemAreOneInTruth) {
  Machine machine([](const Share& share) {
    return 0.006 * share.max_batch * std::max(1.0, share.replicas * share.threads / 4.0);
  });
  const Calibration found = machine.Calibrate({.cores = 8});
  EXPECT_EQ(found.share.replicas, 4);
  EXPECT_EQ(found.share.threads, 1);
}

TEST(CalibrationTest, TakesTheSmallestBatchThatIsAboutAsFastAsTheFastest) {
  // Photos per second of batches of n: n / (overhead + n), of which 0.02 is the server's own.
  const auto batch_for = [](double overhead) {
    return Machine(Linear(0.005, overhead * 0.005, 0.7)).Calibrate({.cores = 2}).share.max_batch;
  };
  EXPECT_EQ(batch_for(0), 1);
  EXPECT_EQ(batch_for(0.06), 2);
  EXPECT_EQ(batch_for(0.18), 4);
  EXPECT_EQ(batch_for(0.46), 8);
  EXPECT_EQ(batch_for(2), 16);
}

TEST(CalibrationTest, TakesMorePhotosAtOnceWhereWhatABatchCostsTheServerCounts) {
  // The forward pass is as fast with one photo as with several.
  EXPECT_EQ(Machine(Linear(0.010, 0, 0.7)).Calibrate({.cores = 2}).share.max_batch, 1);
  EXPECT_EQ(Machine(Linear(0.0008, 0, 0.7)).Calibrate({.cores = 2}).share.max_batch, 4);
}

TEST(CalibrationTest, ForLatencyTakesTheThreadsThatAnswerALonePhotoSoonest) {
  const CalibrationOptions options = {.goal = Goal::kLatency, .cores = 8};
  Calibration found = Machine(Linear(0.006, 0, 0.7)).Calibrate(options);
  EXPECT_EQ(found.share.threads, 8);
  EXPECT_EQ(found.share.replicas, 1);
  // More than two do not help.
  found = Machine([](const Share& share) {
            return 0.006 * share.max_batch / std::min(share.threads, 2);
          }).Calibrate(options);
  EXPECT_EQ(found.share.threads, 2);
  EXPECT_EQ(found.share.replicas, 4);
  // Waiting for each other eats up what they gain.
  found = Machine(Linear(0.006, 0, 0.003)).Calibrate(options);
  EXPECT_EQ(found.share.threads, 1);
  EXPECT_EQ(found.share.replicas, 8);
}

TEST(CalibrationTest, KeepsWhatIsFixed) {
  Machine machine(Linear(0.005, 0, 0.7));
  Share share = machine.Calibrate({.fixed = {.replicas = 3}, .cores = 8}).share;
  EXPECT_EQ(share.replicas, 3);
  EXPECT_LE(share.threads, 2);
  share = machine.Calibrate({.fixed = {.threads = 2}, .cores = 8}).share;
  EXPECT_EQ(share.threads, 2);
  EXPECT_EQ(share.replicas, 4);
  share = machine.Calibrate({.fixed = {.max_batch = 32}, .cores = 8}).share;
  EXPECT_EQ(share.max_batch, 32);
  EXPECT_EQ(share.replicas, 8);
  for (const Goal goal : {Goal::kThroughput, Goal::kLatency}) {
    share =
        machine
            .Calibrate(
                {.goal = goal, .fixed = {.replicas = 16, .threads = 3, .max_batch = 5}, .cores = 8})
            .share;
    EXPECT_EQ(share, (Share{16, 3, 5}));
    share = machine.Calibrate({.goal = goal, .fixed = {.replicas = 16}, .cores = 8}).share;
    EXPECT_EQ(share.replicas, 16);
    EXPECT_EQ(share.threads, 1);
  }
}

TEST(CalibrationTest, NeverStartsMoreThreadsThanThereAreCores) {
  for (const Goal goal : {Goal::kThroughput, Goal::kLatency}) {
    for (const int cores : {1, 2, 3, 6, 7, 64}) {
      Machine machine(Linear(0.001, 0.001, 0.9));
      machine.Calibrate({.goal = goal, .cores = cores});
      for (const Share& share : machine.measured())
        EXPECT_LE(share.replicas * share.threads, cores);
    }
  }
}

TEST(CalibrationTest, IsNotMisledByAShortDisturbance) {
  // The first time that all cores are measured something else runs on them.
  int times = 0;
  Machine machine([&times](const Share& share) {
    const bool disturbed = share.replicas == 2 && ++times == 1;
    return 0.006 * share.max_batch * (disturbed ? 2.4 : 1);
  });
  EXPECT_EQ(machine.Calibrate({.cores = 2}).share.replicas, 2);
}

TEST(CalibrationTest, EndsInTimeHoweverSlowTheModelIs) {
  for (const int cores : {1, 2, 64}) {
    for (const double photo : {0.0001, 0.006, 0.05, 0.2, 1.0, 30.0}) {
      for (const Goal goal : {Goal::kThroughput, Goal::kLatency}) {
        const Calibration found =
            Machine(Linear(photo, 0, 0.7)).Calibrate({.goal = goal, .cores = cores});
        EXPECT_TRUE(IsFixed(found.share)) << ToString(found.share);
        // One window more than the budget, or the first look at a model for which even that is
        // longer.
        EXPECT_LE(Seconds(found.took), std::max(1.7, 3.1 * photo)) << photo << " " << cores;
      }
    }
  }
}

TEST(CalibrationTest, FillsTheCoresWithSingleThreadsWhereThereIsTimeForOneLookOnly) {
  const Calibration found = Machine(Linear(30, 0, 0.7)).Calibrate({.cores = 4});
  EXPECT_EQ(found.share, (Share{4, 1, 1}));
  EXPECT_EQ(found.measured.size(), 1u);
}

TEST(CalibrationTest, TellsWhyAModelCannotRun) {
  FakeClock clock;
  const auto result = Calibrate(
      {.cores = 2},
      [](const Share&) -> absl::StatusOr<Speed> {
        return absl::ResourceExhaustedError("out of memory");
      },
      clock);
  EXPECT_EQ(result.status(), absl::ResourceExhaustedError("out of memory"));
}

TEST(ShareByRuleTest, GivesEveryCoreAReplicaOfItsOwn) {
  for (const int cores : {1, 2, 8, 64}) EXPECT_EQ(ShareByRule({}, cores), (Share{cores, 1, 8}));
}

TEST(ShareByRuleTest, KeepsWhatIsFixedAndFillsTheCores) {
  EXPECT_EQ(ShareByRule({.replicas = 4}, 8), (Share{4, 2, 8}));
  EXPECT_EQ(ShareByRule({.threads = 2}, 8), (Share{4, 2, 8}));
  EXPECT_EQ(ShareByRule({.threads = 16}, 8), (Share{1, 16, 8}));
  EXPECT_EQ(ShareByRule({.replicas = 3, .threads = 5, .max_batch = 2}, 8), (Share{3, 5, 2}));
}

}  // namespace
}  // namespace dla::server
