#include "server/thread_plan.h"

#include <algorithm>

namespace dla::server {
namespace {

// Beyond this a forward pass gains less from another thread than a second batch gains beside it.
constexpr int kMostThreadsPerReplica = 4;

}  // namespace

ThreadPlan PlanThreads(const ModelSettings& settings, int cores) {
  ThreadPlan plan{.replicas = settings.replicas, .compute_threads = settings.threads};
  if (plan.replicas == 0) {
    const int threads =
        plan.compute_threads > 0 ? plan.compute_threads : std::min(cores, kMostThreadsPerReplica);
    plan.replicas = std::max(1, cores / threads);
  }
  if (plan.compute_threads == 0) plan.compute_threads = std::max(1, cores / plan.replicas);
  return plan;
}

}  // namespace dla::server
