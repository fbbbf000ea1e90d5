// How the machine's cores are shared out among all threads of the server.
#pragma once

#include <string>
#include <vector>

#include "server/calibration.h"
#include "server/cpu_limits.h"

namespace dla::server {

// Every model may use all cores, and so may decoding: threads with nothing to do sleep, so the
// cores go to whatever there is work for, and none idles because it belongs to someone else. What
// must not be is one model that alone wants more cores than there are.
struct ThreadPlan {
  struct ModelThreads {
    std::string name;
    Share share;
  };

  CpuLimits limits;
  int decode_threads = 0;
  std::vector<ModelThreads> models;

  // As gRPC has started them by itself: no setting of gRPC 1.51 bounds the threads of its callback
  // API, which are half as many as the machine has cores, 2 to 16. They sleep between messages.
  int grpc_threads = 0;
};

// `fixed` if that is not 0, else one for each core.
int DecodeThreads(int fixed, const CpuLimits& limits);

// How many threads this process has.
int CountThreads();

// One line for the log: "plan cores=2 machine_cores=64 limited_by=cgroup decode_threads=2
// compute_threads=2 grpc_threads=9". compute_threads are those of all models.
std::string ToString(const ThreadPlan& plan);

// A line for each model that alone has more compute threads than there are cores.
std::vector<std::string> Warnings(const ThreadPlan& plan);

}  // namespace dla::server
