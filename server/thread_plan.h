// How the machine's cores are shared out.
#pragma once

#include "server/config.h"

namespace dla::server {

struct ThreadPlan {
  int replicas;
  int compute_threads;  // of each replica
};

// Fixed values stay; what is 0 is filled in: replicas of up to 4 threads each, so many that
// together they use the cores once. `cores` >= 1.
ThreadPlan PlanThreads(const ModelSettings& settings, int cores);

}  // namespace dla::server
