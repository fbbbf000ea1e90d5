#include "server/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Caller kAlice = {.client = 1};
constexpr Caller kBob = {.client = 2};
constexpr Caller kBulk = {.client = 3, .priority = Priority::kBulk};

class BudgetTest : public ::testing::Test {
 protected:
  Budget& Make(int64_t capacity) {
    budget_ = std::make_unique<Budget>(
        Budget::Options{
            .capacity = capacity, .owner = "the server", .what = "bytes", .flag = "--max-bytes"},
        gauges_.bytes);
    return *budget_;
  }

  // How often a caller gets one.
  int TakeAll(const Caller& caller) {
    int taken = 0;
    for (;; ++taken) {
      auto share = budget_->Take(caller, 1);
      if (!share.ok()) return taken;
      held_.push_back(*std::move(share));
    }
  }

  Metrics metrics_;
  BudgetMetrics gauges_ = metrics_.ForBudgets();
  std::unique_ptr<Budget> budget_;
  std::vector<Budget::Share> held_;
};

TEST_F(BudgetTest, AUnusedBudgetGivesAllToOne) {
  Make(1000);
  EXPECT_TRUE(budget_->Take(kAlice, 1000).ok());
}

TEST_F(BudgetTest, RefusesWhatIsMoreThanIsFreeAndSaysWhy) {
  Make(1000);
  const auto held = budget_->Take(kAlice, 700);
  ASSERT_TRUE(held.ok());
  const absl::Status refused = budget_->Take(kBob, 301).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(refused.message()),
      AllOf(HasSubstr("the server has no room for 301 more bytes"),
            HasSubstr("of 1000 (--max-bytes) 300 are free"), HasSubstr("this caller holds 0")));
  EXPECT_TRUE(budget_->Take(kBob, 300).ok());
}

TEST_F(BudgetTest, GivesBackWhenAShareIsDestroyedOrReturned) {
  Make(10);
  {
    auto share = budget_->Take(kAlice, 10);
    EXPECT_EQ(budget_->used(), 10);
    EXPECT_EQ(gauges_.bytes.used->Value(), 10);
    Budget::Share moved = *std::move(share);
    EXPECT_EQ(budget_->used(), 10);
    moved.Return();
    EXPECT_EQ(budget_->used(), 0);
    moved.Return();
    EXPECT_EQ(budget_->used(), 0);
  }
  EXPECT_EQ(budget_->used(), 0);
  EXPECT_EQ(gauges_.bytes.used->Value(), 0);
  EXPECT_EQ(gauges_.bytes.capacity->Value(), 10);
  budget_.reset();
  EXPECT_EQ(gauges_.bytes.capacity->Value(), 0);
}

TEST_F(BudgetTest, AGreedyCallerLeavesRoomForOthers) {
  Make(900);
  EXPECT_EQ(TakeAll(kAlice), 800);
  // Whoever comes next gets most of what is left, and still not all.
  const int bob = TakeAll(kBob);
  EXPECT_GE(bob, 80);
  EXPECT_LT(bob, 100);
  EXPECT_TRUE(budget_->Take({.client = 77}, 1).ok());
}

TEST_F(BudgetTest, ACallerMayHoldAllOfASmallBudget) {
  for (int capacity : {1, 2, 8}) {
    held_.clear();
    Make(capacity);
    EXPECT_EQ(TakeAll(kAlice), capacity);
  }
  held_.clear();
}

TEST_F(BudgetTest, BulkWorkGetsHalf) {
  Make(100);
  EXPECT_EQ(TakeAll(kBulk), 50);
  EXPECT_EQ(TakeAll({.client = 4, .priority = Priority::kBulk}), 0);
  EXPECT_EQ(TakeAll(kAlice), 45);
}

TEST_F(BudgetTest, ALoneBulkDemandMayBeMoreThanHalf) {
  Make(100);
  EXPECT_TRUE(budget_->Take(kBulk, 90).ok());
}

TEST_F(BudgetTest, ZeroMeansWithoutLimit) {
  Make(Budget::kUnlimited);
  auto share = budget_->Take(kBulk, int64_t{1} << 50);
  EXPECT_TRUE(share.ok());
  EXPECT_TRUE(budget_->Take(kBulk, int64_t{1} << 50).ok());
  EXPECT_EQ(budget_->used(), int64_t{1} << 50);
}

TEST_F(BudgetTest, IsNeverOverdrawnByManyThreads) {
  Make(50);
  std::atomic<int64_t> held = 0;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        const int64_t amount = 1 + i % 20;
        const auto share = budget_->Take({.client = t}, amount);
        if (!share.ok()) continue;
        EXPECT_LE(held += amount, 50);
        held -= amount;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget_->used(), 0);
}

}  // namespace
}  // namespace dla::server
