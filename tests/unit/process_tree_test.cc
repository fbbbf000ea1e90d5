#include "benchmarks/serving/process_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace dla::bench {
namespace {

using ::testing::Contains;
using ::testing::Field;

TEST(ProcessTreeTest, ReadsALineWhoseProcessNameTriesToMislead) {
  const auto stat =
      ParseProcessStat("42 (a) R 1 (b) S 7 42 43 0 -1 4194304 1 0 0 0 100 20 3 4 20 0 1 0 5 6 7");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->pid, 42);
  EXPECT_EQ(stat->parent, 7);
  EXPECT_EQ(stat->session, 43);
  EXPECT_DOUBLE_EQ(stat->cpu_s, 127.0 / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

TEST(ProcessTreeTest, RefusesLinesThatAreNone) {
  EXPECT_FALSE(ParseProcessStat("").has_value());
  EXPECT_FALSE(ParseProcessStat("42 (sh) S 7 42 43").has_value());
  EXPECT_FALSE(ParseProcessStat("x (sh) S 7 42 43 0 -1 4 1 0 0 0 1 2 3 4 20").has_value());
}

TEST(ProcessTreeTest, HoldsWhatTheProcessStarted) {
  int end[2];
  ASSERT_EQ(pipe(end), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(end[1]);
    char byte;
    _exit(static_cast<int>(read(end[0], &byte, 1)));  // returns when the parent closes its side
  }
  const auto tree = ReadProcessTree(getpid());
  close(end[0]);
  close(end[1]);
  waitpid(child, nullptr, 0);
  EXPECT_THAT(tree, Contains(Field(&ProcessStat::pid, getpid())));
  EXPECT_THAT(tree, Contains(Field(&ProcessStat::pid, child)));
  EXPECT_THAT(ReadProcessTree(getppid()), Contains(Field(&ProcessStat::pid, getpid())));
  EXPECT_TRUE(ReadProcessTree(child).empty());
}

TEST(ProcessTreeTest, MeasuresMemoryThatIsInUse) {
  const auto self = ReadProcessTree(getpid());
  const int64_t before = MemoryBytes(self);
  const std::string block(64 << 20, 'x');
  // Its part of what it shares with other programs shrinks when they start.
  EXPECT_GE(MemoryBytes(self) - before, 48 << 20) << block.size();
}

TEST(ProcessTreeTest, CpuTimeOfTheMachineIsThatOfItsProcessesAtLeast) {
  EXPECT_GT(ReadMachineCpu().busy_s, 0);
  EXPECT_GE(ReadMachineCpu().stolen_s, 0);
}

}  // namespace
}  // namespace dla::bench
