// How much of the machine's processors this process may use.
#pragma once

#include <optional>
#include <string>

namespace dla::server {

struct CpuLimits {
  int cores = 1;           // to plan with: cpus, rounded up; at least 1
  double cpus = 1;         // processors' worth of time that this process can get
  int machine_cores = 1;   // online, whoever may use them
  std::string limited_by;  // "affinity" or "cgroup"; empty where nothing limits
};

// From sched_getaffinity and the CPU quotas of the control groups. Thread-safe.
CpuLimits ReadCpuLimits();

// The smaller of both; `quota` as CgroupCpuQuota gives it.
CpuLimits CombineCpuLimits(int machine_cores, int affinity_cores, std::optional<double> quota);

// The tightest CPU quota of the control groups, v1 or v2, that this process is in, in processors:
// `docker run --cpus 1.5` gives 1.5. Nothing where there is no quota, or none that can be read.
// `root` stands before /proc and the mount points, for tests.
std::optional<double> CgroupCpuQuota(const std::string& root = "");

// What /proc/cpuinfo calls the processor, such as "AMD EPYC 9655 96-Core Processor"; "unknown"
// where it does not say. `root` as above.
std::string ProcessorName(const std::string& root = "");

}  // namespace dla::server
