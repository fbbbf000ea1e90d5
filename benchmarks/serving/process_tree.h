// What a server, with everything that it started, takes from the machine: read from /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"

namespace dla::bench {

// One line of /proc/PID/stat.
struct ProcessStat {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t session = 0;
  double cpu_s = 0;  // user and kernel, with children that ended and were waited for
};

// nullopt if the line is none. A process may call itself anything: "a) R 1 (b".
std::optional<ProcessStat> ParseProcessStat(absl::string_view line);

// `root` and all its descendants and, where it leads a session, that session's other processes.
// Empty if there is no such process.
std::vector<ProcessStat> ReadProcessTree(pid_t root);

double CpuSeconds(const std::vector<ProcessStat>& tree);

// Sum of the proportional set sizes: pages that processes share count once.
int64_t MemoryBytes(const std::vector<ProcessStat>& tree);

// Since the machine was started, all cores together.
struct MachineCpu {
  double busy_s = 0;    // in programs and in the kernel for them; no interrupts
  double stolen_s = 0;  // taken by other virtual machines
};

MachineCpu ReadMachineCpu();

}  // namespace dla::bench
