// Memory, CPU time, files, threads and start of this process, under the names that all Prometheus
// clients use, and the memory that it may take.
#pragma once

#include <vector>

#include "prometheus/collectable.h"

namespace dla::server {

// Reads /proc/self at every scrape. Thread-safe. Source of the names:
// https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
class ProcessMetrics final : public prometheus::Collectable {
 public:
  ProcessMetrics();

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const double start_seconds_;  // since 1970
};

}  // namespace dla::server
