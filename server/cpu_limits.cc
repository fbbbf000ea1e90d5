#include "server/cpu_limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <memory>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace dla::server {
namespace {

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// quota / period, if both are numbers that make sense.
std::optional<double> Quota(absl::string_view quota, absl::string_view period) {
  double q = 0, p = 0;
  if (!absl::SimpleAtod(quota, &q) || !absl::SimpleAtod(period, &p)) return std::nullopt;
  if (!(q > 0) || !(p > 0)) return std::nullopt;  // v1 writes -1 for no limit
  return q / p;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> QuotaOfV2(const std::string& folder) {
  const std::vector<std::string> fields =
      absl::StrSplit(FirstLine(folder + "/cpu.max"), ' ', absl::SkipEmpty());
  return fields.size() == 2 ? Quota(fields[0], fields[1]) : std::nullopt;  // "max 100000": no limit
}

std::optional<double> QuotaOfV1(const std::string& folder) {
  return Quota(FirstLine(folder + "/cpu.cfs_quota_us"), FirstLine(folder + "/cpu.cfs_period_us"));
}

// Where a hierarchy of control groups is mounted, from a line of /proc/self/mountinfo.
struct Mount {
  std::string root;   // the group that shows at the mount point
  std::string point;  // absolute
};

// `type` is "cgroup2", or "cgroup" with the controller "cpu".
std::optional<Mount> FindMount(const std::vector<std::string>& mountinfo, absl::string_view type) {
  for (const std::string& line : mountinfo) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> before = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> after = absl::StrSplit(halves[1], ' ');
    if (before.size() < 5 || after.size() < 3 || after[0] != type) continue;
    const std::vector<absl::string_view> options = absl::StrSplit(after[2], ',');
    if (type == "cgroup" && !absl::c_linear_search(options, "cpu")) continue;
    return Mount{std::string(before[3]), std::string(before[4])};
  }
  return std::nullopt;
}

// The group's path in the hierarchy, from /proc/self/cgroup: "0::/a/b" for v2, and
// "4:cpu,cpuacct:/a/b" for v1.
std::optional<std::string> FindGroup(const std::vector<std::string>& cgroup, bool v2) {
  for (const std::string& line : cgroup) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    const bool mine =
        v2 ? fields[0] == "0" && fields[1].empty() : absl::c_linear_search(controllers, "cpu");
    if (mine) return std::string(fields[2]);
  }
  return std::nullopt;
}

// The tightest quota from the group up to the mount point: each holds for all below it.
std::optional<double> TightestQuota(
    const std::string& root, const Mount& mount, absl::string_view group,
    const std::function<std::optional<double>(const std::string&)>& quota_of) {
  // In a container the mount may show a part of the hierarchy only, named from its top.
  if (mount.root != "/" && absl::StartsWith(group, mount.root)) {
    group.remove_prefix(mount.root.size());
  }
  std::optional<double> tightest;
  for (absl::string_view path = absl::StripSuffix(group, "/");;
       path = path.substr(0, path.rfind('/'))) {
    const std::optional<double> quota = quota_of(absl::StrCat(root, mount.point, path));
    if (quota.has_value()) tightest = std::min(tightest.value_or(*quota), *quota);
    if (path.empty() || path.rfind('/') == absl::string_view::npos) return tightest;
  }
}

// The cores that the kernel may schedule this thread on.
std::optional<int> AffinityCores() {
  constexpr int kMaxCores = 1 << 16;
  const auto free_set = [](cpu_set_t* set) { CPU_FREE(set); };
  const std::unique_ptr<cpu_set_t, decltype(free_set)> set(CPU_ALLOC(kMaxCores), free_set);
  const size_t size = CPU_ALLOC_SIZE(kMaxCores);
  if (set == nullptr || sched_getaffinity(0, size, set.get()) != 0) return std::nullopt;
  return CPU_COUNT_S(size, set.get());
}

}  // namespace

std::optional<double> CgroupCpuQuota(const std::string& root) {
  const std::vector<std::string> mountinfo = Lines(root + "/proc/self/mountinfo");
  const std::vector<std::string> cgroup = Lines(root + "/proc/self/cgroup");
  std::optional<double> tightest;
  for (const bool v2 : {true, false}) {
    const std::optional<Mount> mount = FindMount(mountinfo, v2 ? "cgroup2" : "cgroup");
    const std::optional<std::string> group = FindGroup(cgroup, v2);
    if (!mount.has_value() || !group.has_value()) continue;
    const std::optional<double> quota =
        TightestQuota(root, *mount, *group, v2 ? QuotaOfV2 : QuotaOfV1);
    if (quota.has_value()) tightest = std::min(tightest.value_or(*quota), *quota);
  }
  return tightest;
}

CpuLimits CombineCpuLimits(int machine_cores, int affinity_cores, std::optional<double> quota) {
  CpuLimits limits;
  limits.machine_cores = std::max(1, machine_cores);
  limits.cpus = std::clamp(affinity_cores, 1, limits.machine_cores);
  if (limits.cpus < limits.machine_cores) limits.limited_by = "affinity";
  if (quota.has_value() && *quota < limits.cpus) {
    limits.cpus = *quota;
    limits.limited_by = "cgroup";
  }
  // Rounded up: with 1.5 processors' worth of time one thread would leave a third of it unused.
  limits.cores = std::max(1, static_cast<int>(std::ceil(limits.cpus - 1e-6)));
  return limits;
}

CpuLimits ReadCpuLimits() {
  const int machine = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return CombineCpuLimits(machine, AffinityCores().value_or(machine), CgroupCpuQuota());
}

std::string ProcessorName(const std::string& root) {
  std::string arm;
  for (const std::string& line : Lines(root + "/proc/cpuinfo")) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (halves.size() != 2) continue;
    const absl::string_view key = absl::StripAsciiWhitespace(halves[0]);
    const absl::string_view value = absl::StripAsciiWhitespace(halves[1]);
    if (key == "model name" && !value.empty()) return std::string(value);
    if (key == "processor" && value != "0") break;  // Arm: the first core's numbers are enough
    if (key == "CPU implementer" || key == "CPU part") absl::StrAppend(&arm, " ", value);
  }
  return arm.empty() ? "unknown" : absl::StrCat("Arm", arm);
}

}  // namespace dla::server
