#include "server/thread_plan.h"

#include <algorithm>

namespace dla::server {
ThreadPlan PlanThreads(const ModelSettings& settings, int cores) {
  ThreadPlan plan{.replicas = settings.replicas, .compute_threads = settings.threads};
  if (plan.replicas == 0) plan.replicas = std::max(1, cores / std::max(1, plan.compute_threads));
  if (plan.compute_threads == 0) plan.compute_threads = std::max(1, cores / plan.replicas);
  return plan;
}

}  // namespace dla::server
