#include "model/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <vector>

namespace dla::cpu {
namespace {

TEST(ThreadTeamTest, CallsEachPartOnceAndReturnsWhenAllAreDone) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    ASSERT_EQ(team.size(), threads);
    for (int round = 0; round < 1000; ++round) {
      std::vector<int> calls(threads);  // not atomic: TSan sees whether Run waits for all
      team.Run([&](int part) { ++calls[part]; });
      EXPECT_EQ(calls, std::vector<int>(threads, 1));
    }
  }
}

TEST(ThreadTeamTest, RangesCoverEverythingOnce) {
  ThreadTeam team(3);
  for (const int64_t count : {0, 1, 2, 3, 100}) {
    std::vector<int> visits(count);
    team.RunRanges(count, [&](int64_t begin, int64_t end) {
      ASSERT_LT(begin, end);
      for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    EXPECT_EQ(visits, std::vector<int>(count, 1));
  }
}

TEST(ThreadTeamTest, EndsWhileItsThreadsSleep) {
  std::atomic<int> calls = 0;
  for (int i = 0; i < 100; ++i) {
    ThreadTeam team(4);
    if (i % 2 == 0) team.Run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 50 * 4);
}

}  // namespace
}  // namespace dla::cpu
