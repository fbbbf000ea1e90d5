// What the calls of all services share.
#pragma once

#include <atomic>

#include "server/admission.h"
#include "server/call_tracker.h"
#include "server/clock.h"
#include "server/gatekeeper.h"
#include "server/metrics.h"
#include "server/model_registry.h"
#include "server/pipeline.h"

namespace dla::server {

// All of it outlives the services.
struct ServiceContext {
  const Gatekeeper& gate;
  const ModelRegistry& registry;
  Pipeline& pipeline;
  CallTracker& calls;
  Budgets& budgets;                // the server's
  RequestMetrics& unknown_model;   // counts requests for models that do not exist
  const std::atomic<bool>& ready;  // between loading and shutting down
  Clock& clock;
};

}  // namespace dla::server
