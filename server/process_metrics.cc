#include "server/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>

#include "prometheus/metric_family.h"
#include "server/memory_limit.h"

namespace dla::server {
namespace {

prometheus::MetricFamily Single(const char* name, const char* help, prometheus::MetricType type,
                                double value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {.name = name, .help = help, .type = type, .metric = {metric}};
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + t.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double EntriesOf(const char* folder) {
  DIR* dir = opendir(folder);
  if (dir == nullptr) return 0;
  double entries = -2;  // "." and ".."
  while (readdir(dir) != nullptr) ++entries;
  closedir(dir);
  return entries;
}

}  // namespace

// The server makes this object as one of its first; restarts are what its users look for.
ProcessMetrics::ProcessMetrics()
    : start_seconds_(
          std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
              .count()) {}

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  return {
      Single("process_resident_memory_bytes", "Memory in RAM.", MetricType::Gauge, ResidentBytes()),
      Single("dla_memory_limit_bytes",
             "Memory that the process may take: its control groups' limit or the machine's.",
             MetricType::Gauge, MemoryLimitBytes()),
      Single("process_start_time_seconds", "Start, in seconds since 1970.", MetricType::Gauge,
             start_seconds_),
      Single("process_cpu_seconds_total", "User and system CPU time.", MetricType::Counter,
             CpuSeconds()),
      Single("process_open_fds", "Open file descriptors.", MetricType::Gauge,
             EntriesOf("/proc/self/fd")),
      Single("process_threads", "Threads.", MetricType::Gauge, EntriesOf("/proc/self/task")),
  };
}

}  // namespace dla::server
