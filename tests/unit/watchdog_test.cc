#include "server/watchdog.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/support/fake_clock.h"

namespace dla::server {
namespace {

using std::chrono::seconds;

TEST(WorkClaimTest, WorkEndsUnlessItWasTakenAway) {
  const TimePoint now = TimePoint() + seconds(100);
  WorkClaim claim;
  EXPECT_FALSE(claim.Take(now));  // nothing is under way
  EXPECT_TRUE(claim.Begin(now));
  EXPECT_EQ(claim.due(), now);
  EXPECT_FALSE(claim.Take(now - seconds(1)));  // not due yet
  EXPECT_TRUE(claim.End());
  EXPECT_EQ(claim.due(), TimePoint::max());
  EXPECT_TRUE(claim.Begin(now));
  EXPECT_TRUE(claim.Take(now));
  EXPECT_FALSE(claim.Take(now));
  EXPECT_FALSE(claim.End());
  EXPECT_FALSE(claim.Begin(now));
}

TEST(WorkClaimTest, NothingBeginsOnceItIsClosed) {
  WorkClaim idle;
  EXPECT_FALSE(idle.Close());
  EXPECT_FALSE(idle.Begin(TimePoint::max()));
  WorkClaim busy;
  EXPECT_TRUE(busy.Begin(TimePoint::max()));
  EXPECT_TRUE(busy.Close());
  EXPECT_FALSE(busy.Close());
  EXPECT_FALSE(busy.End());
}

TEST(WorkClaimTest, ExactlyOneOfTwoThreadsGetsEachPieceOfWork) {
  constexpr int kPieces = 20'000;
  const TimePoint due = TimePoint() + seconds(1);
  for (int piece = 0; piece < kPieces / 1000; ++piece) {
    WorkClaim claim;
    std::atomic<int> ended = 0;
    std::atomic<int> taken = 0;
    std::thread worker([&] {
      for (int i = 0; i < 1000 && claim.Begin(due); ++i) {
        if (!claim.End()) return;
        ++ended;
      }
    });
    while (ended < piece * 50) std::this_thread::yield();
    taken += claim.Take(due);
    worker.join();
    EXPECT_EQ(taken + (ended == 1000 ? 1 : 0), 1);
  }
}

TEST(WatchdogTest, LooksAtOnceWhenSomethingIsDueAndNotBefore) {
  FakeClock clock;
  std::promise<void> barked;
  const TimePoint due = clock.Now() + seconds(30);
  Watchdog dog(clock, [&] {
    if (clock.Now() < due) return due;
    barked.set_value();
    return TimePoint::max();
  });
  dog.Start();
  clock.AwaitWaiters(1);
  auto bark = barked.get_future();
  clock.Advance(seconds(30) - std::chrono::nanoseconds(1));
  EXPECT_EQ(bark.wait_for(seconds(0)), std::future_status::timeout);
  clock.Advance(std::chrono::nanoseconds(1));
  bark.get();
}

TEST(WatchdogTest, WhatBeginsWakesItOnlyWhenItHasNothingToWaitFor) {
  FakeClock clock;
  WorkClaim claim;
  std::atomic<int> looks = 0;
  Watchdog dog(clock, [&] {
    ++looks;
    return claim.due();
  });
  dog.Start();
  claim.Begin(clock.Now() + seconds(30));
  dog.Begun();
  clock.AwaitWaiters(1);  // it has seen it
  const int before = looks;
  for (int i = 0; i < 100; ++i) {
    claim.End();
    claim.Begin(clock.Now() + seconds(30));
    dog.Begun();
  }
  EXPECT_EQ(looks, before);
  dog.Stop();
}

TEST(WatchdogTest, MissesNothingThatBeginsWhileItLooks) {
  for (int i = 0; i < 300; ++i) {
    FakeClock clock;
    WorkClaim claim;
    std::promise<void> seen;
    std::atomic<bool> done = false;
    Watchdog dog(clock, [&] {
      const TimePoint due = claim.due();
      if (due != TimePoint::max() && !done.exchange(true)) seen.set_value();
      return due;
    });
    dog.Start();
    claim.Begin(clock.Now() + seconds(30));
    dog.Begun();
    seen.get_future().get();
    dog.Stop();
  }
}

}  // namespace
}  // namespace dla::server
