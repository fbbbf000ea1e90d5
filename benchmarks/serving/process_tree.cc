#include "benchmarks/serving/process_tree.h"

#include <dirent.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dla::bench {
namespace {

double TicksPerSecond() {
  static const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return ticks;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<ProcessStat> ReadAllProcesses() {
  std::vector<ProcessStat> all;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return all;
  while (const dirent* entry = readdir(folder)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    // It may have ended since.
    const auto stat = ParseProcessStat(FirstLine(absl::StrCat("/proc/", pid, "/stat")));
    if (stat.has_value()) all.push_back(*stat);
  }
  closedir(folder);
  return all;
}

}  // namespace

std::optional<ProcessStat> ParseProcessStat(absl::string_view line) {
  // proc(5): pid (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime
  // stime cutime cstime
  const size_t name_end = line.rfind(')');
  if (name_end == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(line.substr(name_end + 1), ' ', absl::SkipEmpty());
  ProcessStat stat;
  if (fields.size() < 15 || !absl::SimpleAtoi(line.substr(0, line.find(' ')), &stat.pid) ||
      !absl::SimpleAtoi(fields[1], &stat.parent) || !absl::SimpleAtoi(fields[3], &stat.session)) {
    return std::nullopt;
  }
  for (size_t i = 11; i < 15; ++i) {
    int64_t ticks = 0;
    if (!absl::SimpleAtoi(fields[i], &ticks)) return std::nullopt;
    stat.cpu_s += static_cast<double>(ticks) / TicksPerSecond();
  }
  return stat;
}

std::vector<ProcessStat> ReadProcessTree(pid_t root) {
  const std::vector<ProcessStat> all = ReadAllProcesses();
  std::set<pid_t> found;
  for (const ProcessStat& p : all) {
    if (p.pid == root || p.session == root) found.insert(p.pid);
  }
  if (!found.contains(root)) return {};
  for (size_t before = 0; before != found.size();) {
    before = found.size();
    for (const ProcessStat& p : all) {
      if (found.contains(p.parent)) found.insert(p.pid);
    }
  }
  std::vector<ProcessStat> tree;
  for (const ProcessStat& p : all) {
    if (found.contains(p.pid)) tree.push_back(p);
  }
  return tree;
}

double CpuSeconds(const std::vector<ProcessStat>& tree) {
  double sum = 0;
  for (const ProcessStat& p : tree) sum += p.cpu_s;
  return sum;
}

int64_t MemoryBytes(const std::vector<ProcessStat>& tree) {
  int64_t sum = 0;
  for (const ProcessStat& p : tree) {
    std::ifstream file(absl::StrCat("/proc/", p.pid, "/smaps_rollup"));
    for (std::string line; std::getline(file, line);) {
      if (!absl::StartsWith(line, "Pss:")) continue;
      int64_t kib = 0;
      std::istringstream(line.substr(4)) >> kib;
      sum += kib * 1024;
      break;
    }
  }
  return sum;
}

MachineCpu ReadMachineCpu() {
  // proc(5): cpu user nice system idle iowait irq softirq steal
  std::istringstream line(FirstLine("/proc/stat"));
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  line >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
  return {(user + nice + system) / TicksPerSecond(), steal / TicksPerSecond()};
}

}  // namespace dla::bench
