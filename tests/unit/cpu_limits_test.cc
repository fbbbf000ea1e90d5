#include "server/cpu_limits.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

// Files of /proc and of the control groups, as systems show them.
class CpuLimitsTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { root_.Write(path, text); }
  std::optional<double> Quota() { return CgroupCpuQuota(root_.Path()); }

  // A machine with control groups v2, and this process in `group`.
  void UseV2(const std::string& group) {
    Write("proc/self/mountinfo",
          "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
          "30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    Write("proc/self/cgroup", absl::StrCat("0::", group, "\n"));
  }

  dla::testing::TempDir root_;
};

TEST_F(CpuLimitsTest, ReadsTheQuotaOfAContainerWithControlGroupsV2) {
  UseV2("/");
  Write("sys/fs/cgroup/cpu.max", "200000 100000\n");  // docker run --cpus 2
  EXPECT_EQ(Quota(), 2.0);
}

TEST_F(CpuLimitsTest, ReadsFractionsOfAProcessor) {
  UseV2("/kubepods/pod1/c1");
  Write("sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "150000 100000\n");
  EXPECT_EQ(Quota(), 1.5);
}

TEST_F(CpuLimitsTest, TheTightestQuotaOfAllGroupsAboveHolds) {
  UseV2("/kubepods/pod1/c1");
  Write("sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/kubepods/pod1/cpu.max", "300000 100000\n");
  Write("sys/fs/cgroup/kubepods/cpu.max", "400000 50000\n");
  EXPECT_EQ(Quota(), 3.0);
}

TEST_F(CpuLimitsTest, SeesNoQuotaWhereThereIsNone) {
  EXPECT_EQ(Quota(), std::nullopt);  // not even /proc
  UseV2("/user.slice");
  EXPECT_EQ(Quota(), std::nullopt);
  Write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(Quota(), std::nullopt);
}

TEST_F(CpuLimitsTest, PassesOverWhatMakesNoSense) {
  UseV2("/a");
  for (const char* text :
       {"", "0 100000", "-5 100000", "nan 100000", "200000 0", "200000", "a b"}) {
    Write("sys/fs/cgroup/a/cpu.max", text);
    EXPECT_EQ(Quota(), std::nullopt) << text;
  }
  Write("proc/self/mountinfo", "30 22 - cgroup2\n - \n\n");
  Write("proc/self/cgroup", "0\n:\n::\n");
  EXPECT_EQ(Quota(), std::nullopt);
}

TEST_F(CpuLimitsTest, ReadsTheQuotaOfControlGroupsV1) {
  // Docker without a namespace of control groups: the container's group is what is mounted.
  Write("proc/self/mountinfo",
        "40 39 0:33 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
        "41 39 0:34 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup "
        "rw,cpu,cpuacct\n");
  Write("proc/self/cgroup", "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n");
  Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Quota(), 4.0);
  Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(Quota(), std::nullopt);
}

TEST_F(CpuLimitsTest, ReadsTheProcessorsNameOnIntelAmdAndArm) {
  EXPECT_EQ(ProcessorName(root_.Path()), "unknown");
  Write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9655\n");
  EXPECT_EQ(ProcessorName(root_.Path()), "AMD EPYC 9655");
  Write("proc/cpuinfo",
        "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n"
        "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n");
  EXPECT_EQ(ProcessorName(root_.Path()), "Arm 0x41 0xd40");
}

TEST(CombineCpuLimitsTest, TakesTheSmallestAndSaysWhatItWas) {
  CpuLimits limits = CombineCpuLimits(64, 64, std::nullopt);
  EXPECT_EQ(limits.cores, 64);
  EXPECT_EQ(limits.limited_by, "");
  limits = CombineCpuLimits(64, 64, 2.0);
  EXPECT_EQ(limits.cores, 2);
  EXPECT_EQ(limits.machine_cores, 64);
  EXPECT_EQ(limits.limited_by, "cgroup");
  limits = CombineCpuLimits(64, 4, 8.0);
  EXPECT_EQ(limits.cores, 4);
  EXPECT_EQ(limits.limited_by, "affinity");
}

TEST(CombineCpuLimitsTest, RoundsUpSoThatNoTimeIsLeftUnused) {
  EXPECT_EQ(CombineCpuLimits(64, 64, 1.5).cores, 2);
  EXPECT_EQ(CombineCpuLimits(64, 64, 1.5).cpus, 1.5);
  EXPECT_EQ(CombineCpuLimits(64, 64, 0.1).cores, 1);
  EXPECT_EQ(CombineCpuLimits(64, 64, 3.0).cores, 3);
}

TEST(ReadCpuLimitsTest, ThisMachineHasACore) {
  const CpuLimits limits = ReadCpuLimits();
  EXPECT_GE(limits.cores, 1);
  EXPECT_LE(limits.cores, limits.machine_cores);
}

}  // namespace
}  // namespace dla::server
