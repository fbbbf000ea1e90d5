#include "server/memory_limit.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

constexpr double kGiB = 1 << 30;

// Files of /proc and of the control groups, as systems show them.
class MemoryLimitTest : public ::testing::Test {
 protected:
  MemoryLimitTest() { Write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n"); }

  void Write(const std::string& path, const std::string& text) { root_.Write(path, text); }
  double Limit() { return MemoryLimitBytes(root_.Path()); }

  dla::testing::TempDir root_;
};

TEST_F(MemoryLimitTest, IsTheMachinesWhereNothingLimits) {
  EXPECT_EQ(Limit(), 8 * kGiB);
  std::filesystem::remove(root_.Path("proc/meminfo"));
  EXPECT_EQ(Limit(), 0);
}

TEST_F(MemoryLimitTest, IsTheTightestOfAllGroupsAboveWithControlGroupsV2) {
  Write("proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
  Write("proc/self/cgroup", "0::/pods/c1\n");
  Write("sys/fs/cgroup/pods/c1/memory.max", "max\n");
  EXPECT_EQ(Limit(), 8 * kGiB);
  Write("sys/fs/cgroup/pods/memory.max", "2147483648\n");
  EXPECT_EQ(Limit(), 2 * kGiB);
  Write("sys/fs/cgroup/pods/c1/memory.max", "1073741824\n");
  EXPECT_EQ(Limit(), kGiB);
  Write("sys/fs/cgroup/pods/c1/memory.max", "17179869184\n");
  Write("sys/fs/cgroup/pods/memory.max", "0\n");  // makes no sense
  EXPECT_EQ(Limit(), 8 * kGiB);
}

TEST_F(MemoryLimitTest, ReadsThatOfAContainerWithControlGroupsV1) {
  Write("proc/self/mountinfo",
        "31 22 0:27 /docker/1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 22 0:28 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  Write("proc/self/cgroup", "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n");
  Write("sys/fs/cgroup/cpu/memory.limit_in_bytes", "1\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Limit(), 8 * kGiB);
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(Limit(), kGiB);
}

}  // namespace
}  // namespace dla::server
