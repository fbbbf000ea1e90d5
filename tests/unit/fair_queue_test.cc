#include "server/fair_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace dla::server {
namespace {

using ::testing::ElementsAre;

constexpr Caller kAlice = {.client = 1};
constexpr Caller kBob = {.client = 2};
constexpr Caller kBulk = {.client = 3, .priority = Priority::kBulk};

std::vector<int> PopAll(FairQueue<int>& queue) {
  std::vector<int> items;
  while (!queue.empty()) items.push_back(queue.Pop());
  return items;
}

TEST(FairQueueTest, IsFirstInFirstOutForOneCaller) {
  FairQueue<int> queue;
  for (int i = 1; i <= 4; ++i) queue.Push(kAlice, i);
  EXPECT_EQ(queue.size(), 4u);
  EXPECT_THAT(PopAll(queue), ElementsAre(1, 2, 3, 4));
}

TEST(FairQueueTest, CallersTakeTurns) {
  FairQueue<int> queue;
  for (int i = 1; i <= 3; ++i) queue.Push(kAlice, i);
  for (int i = 11; i <= 12; ++i) queue.Push(kBob, i);
  EXPECT_THAT(PopAll(queue), ElementsAre(1, 11, 2, 12, 3));
}

TEST(FairQueueTest, ANewcomerWaitsForOneItemOfEachOtherCaller) {
  FairQueue<int> queue;
  for (int i = 0; i < 1000; ++i) queue.Push(kAlice, i);
  queue.Push(kBob, -1);
  EXPECT_EQ(queue.Pop(), 0);
  EXPECT_EQ(queue.Pop(), -1);
}

TEST(FairQueueTest, ACallerThatComesBackAtOnceGoesToTheEnd) {
  FairQueue<int> queue;
  queue.Push(kAlice, 1);
  queue.Push(kBob, 11);
  EXPECT_EQ(queue.Pop(), 1);
  queue.Push(kAlice, 2);
  EXPECT_THAT(PopAll(queue), ElementsAre(11, 2));
}

TEST(FairQueueTest, EveryNinthIsABulkItemWhileBothWait) {
  FairQueue<int> queue;
  for (int i = 0; i < 20; ++i) queue.Push(kBulk, 100 + i);
  for (int i = 0; i < 20; ++i) queue.Push(kAlice, i);
  EXPECT_THAT(PopAll(queue), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 100, 8, 9, 10, 11, 12, 13, 14, 15,
                                         101, 16, 17, 18, 19, 102, 103, 104, 105, 106, 107, 108,
                                         109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119));
}

TEST(FairQueueTest, BulkGoesOnUnderAnUnendingInteractiveLoad) {
  FairQueue<int> queue;
  queue.Push(kBulk, -1);
  queue.Push(kAlice, 0);
  int popped = 0;
  while (queue.Pop() != -1) {
    queue.Push(kAlice, 0);
    ASSERT_LT(++popped, 9);
  }
}

TEST(FairQueueTest, TellsHowManyGoAhead) {
  FairQueue<int> queue;
  EXPECT_EQ(queue.Ahead(kBob), 0u);
  for (int i = 0; i < 100; ++i) queue.Push(kAlice, i);
  EXPECT_EQ(queue.Ahead(kAlice), 100u);
  EXPECT_EQ(queue.Ahead(kBob), 1u);
  queue.Push(kBob, 0);
  EXPECT_EQ(queue.Ahead(kBob), 3u);  // its own and two of Alice's
  EXPECT_EQ(queue.Ahead(kBulk), 8u);
  for (int i = 0; i < 100; ++i) queue.Push(kBulk, i);
  EXPECT_EQ(queue.Ahead(kBulk), 100u + 101u);
  EXPECT_EQ(queue.Ahead(kAlice), 101u + 12u);
}

// The number told is right within one turn, whatever the mix.
TEST(FairQueueTest, WhatGoesAheadIsWhatIsPoppedBefore) {
  uint32_t random = 1;
  auto next = [&random](uint32_t below) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % below;
  };
  for (int round = 0; round < 200; ++round) {
    FairQueue<int> queue;
    for (uint32_t i = 0; i < next(200); ++i) {
      queue.Push({.client = next(5), .priority = static_cast<Priority>(next(2))}, 0);
    }
    const Caller caller = {.client = next(6), .priority = static_cast<Priority>(next(2))};
    const size_t told = queue.Ahead(caller);
    queue.Push(caller, 1);
    size_t before = 0;
    while (queue.Pop() != 1) ++before;
    // Of the other callers some have fewer than the turns that are counted.
    EXPECT_GE(told + 9, before);
  }
}

TEST(FairQueueTest, ShowsTheOldestItemOfEachCaller) {
  FairQueue<int> queue;
  queue.Push(kAlice, 1);
  queue.Push(kAlice, 2);
  queue.Push(kBulk, 3);
  std::vector<int> oldest;
  queue.VisitOldest([&](int item) { oldest.push_back(item); });
  EXPECT_THAT(oldest, ElementsAre(1, 3));
}

}  // namespace
}  // namespace dla::server
