// Memory, CPU time, files and threads of this process, under the names that all Prometheus clients
// use.
#pragma once

#include <vector>

#include "prometheus/collectable.h"

namespace dla::server {

// Reads /proc/self at every scrape. Source of the names:
// https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace dla::server
