#include "server/thread_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ThreadPlan PlanOfTwoModels() {
  return {.limits = CombineCpuLimits(64, 64, 2.0),
          .decode_threads = 2,
          .models = {{"a", {.replicas = 2, .threads = 1, .max_batch = 4}},
                     {"b", {.replicas = 1, .threads = 2, .max_batch = 4}}},
          .grpc_threads = 9};
}

TEST(ThreadPlanTest, DecodingMayUseTheCoresThatTheProcessMayUse) {
  EXPECT_EQ(DecodeThreads(0, CombineCpuLimits(64, 64, 2.0)), 2);
  EXPECT_EQ(DecodeThreads(5, CombineCpuLimits(64, 64, 2.0)), 5);
}

TEST(ThreadPlanTest, IsOneLineOfTheLog) {
  EXPECT_EQ(ToString(PlanOfTwoModels()),
            "plan cores=2 machine_cores=64 limited_by=cgroup decode_threads=2 compute_threads=4 "
            "grpc_threads=9");
}

TEST(ThreadPlanTest, WarnsOfAModelThatAloneWantsMoreCoresThanThereAre) {
  ThreadPlan plan = PlanOfTwoModels();
  EXPECT_THAT(Warnings(plan), IsEmpty());
  plan.models[1].share.replicas = 2;
  EXPECT_THAT(Warnings(plan),
              ElementsAre(AllOf(HasSubstr("model=b"), HasSubstr("2 replicas x 2 threads"),
                                HasSubstr("2 cores"))));
}

TEST(ThreadPlanTest, CountsTheThreadsOfThisProcess) { EXPECT_GE(CountThreads(), 1); }

}  // namespace
}  // namespace dla::server
