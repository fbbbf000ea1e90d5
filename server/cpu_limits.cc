#include "server/cpu_limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/cgroup.h"

namespace dla::server {
namespace {

// quota / period, if both are numbers that make sense.
std::optional<double> Quota(absl::string_view quota, absl::string_view period) {
  double q = 0, p = 0;
  if (!absl::SimpleAtod(quota, &q) || !absl::SimpleAtod(period, &p)) return std::nullopt;
  if (!(q > 0) || !(p > 0)) return std::nullopt;  // v1 writes -1 for no limit
  return q / p;
}

std::optional<double> QuotaOfV2(const std::string& folder) {
  const std::vector<std::string> fields =
      absl::StrSplit(ReadFirstLine(folder + "/cpu.max"), ' ', absl::SkipEmpty());
  return fields.size() == 2 ? Quota(fields[0], fields[1]) : std::nullopt;  // "max 100000": no limit
}

std::optional<double> QuotaOfV1(const std::string& folder) {
  return Quota(ReadFirstLine(folder + "/cpu.cfs_quota_us"),
               ReadFirstLine(folder + "/cpu.cfs_period_us"));
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
  return TightestCgroupLimit("cpu", {.v2 = QuotaOfV2, .v1 = QuotaOfV1}, root);
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
  for (const std::string& line : ReadLines(root + "/proc/cpuinfo")) {
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
