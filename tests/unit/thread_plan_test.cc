#include "server/thread_plan.h"

#include <gtest/gtest.h>

namespace dla::server {
namespace {

TEST(ThreadPlanTest, GivesEveryCoreAReplicaOfItsOwn) {
  for (int cores : {1, 2, 8, 64}) {
    const ThreadPlan plan = PlanThreads({}, cores);
    EXPECT_EQ(plan.replicas, cores);
    EXPECT_EQ(plan.compute_threads, 1);
  }
}

TEST(ThreadPlanTest, KeepsWhatIsFixed) {
  ThreadPlan plan = PlanThreads({.replicas = 4}, 8);
  EXPECT_EQ(plan.replicas, 4);
  EXPECT_EQ(plan.compute_threads, 2);
  plan = PlanThreads({.threads = 2}, 8);
  EXPECT_EQ(plan.replicas, 4);
  EXPECT_EQ(plan.compute_threads, 2);
  plan = PlanThreads({.threads = 16}, 8);
  EXPECT_EQ(plan.replicas, 1);
  EXPECT_EQ(plan.compute_threads, 16);
  plan = PlanThreads({.replicas = 3, .threads = 5}, 8);
  EXPECT_EQ(plan.replicas, 3);
  EXPECT_EQ(plan.compute_threads, 5);
}

}  // namespace
}  // namespace dla::server
