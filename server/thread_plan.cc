#include "server/thread_plan.h"

#include <filesystem>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace dla::server {

int DecodeThreads(int fixed, const CpuLimits& limits) { return fixed > 0 ? fixed : limits.cores; }

int CountThreads() {
  std::error_code error;
  int count = 0;
  for (std::filesystem::directory_iterator it("/proc/self/task", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return count;
}

std::string ToString(const ThreadPlan& plan) {
  std::string line =
      absl::StrCat("plan cores=", plan.limits.cores, " machine_cores=", plan.limits.machine_cores);
  if (!plan.limits.limited_by.empty()) {
    absl::StrAppend(&line, " limited_by=", plan.limits.limited_by);
  }
  int compute = 0;
  for (const ThreadPlan::ModelThreads& model : plan.models) {
    compute += model.share.replicas * model.share.threads;
  }
  absl::StrAppend(&line, " decode_threads=", plan.decode_threads, " compute_threads=", compute,
                  " grpc_threads=", plan.grpc_threads);
  return line;
}

std::vector<std::string> Warnings(const ThreadPlan& plan) {
  std::vector<std::string> warnings;
  for (const auto& [name, share] : plan.models) {
    const int threads = share.replicas * share.threads;
    if (threads <= plan.limits.cores) continue;
    warnings.push_back(absl::StrCat("model=", name, " has ", share.replicas, " replicas x ",
                                    share.threads, " threads, ", threads, " in all, for ",
                                    plan.limits.cores,
                                    " cores: they will wait for each other. --replicas auto or "
                                    "--threads auto takes as many as fit"));
  }
  return warnings;
}

}  // namespace dla::server
