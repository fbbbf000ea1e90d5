// What is served over HTTP.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "prometheus/collectable.h"

namespace httplib {
struct Request;
class Server;
}  // namespace httplib

namespace dla::server {

// GET /v2/health/live: 200 while the process runs. GET /v2/health/ready and /healthz: 200 while new
// requests are accepted, 503 before and after. The Open Inference Protocol's paths, and the usual
// one. `ready` outlives the server.
void AddHealthRoutes(httplib::Server& server, const std::atomic<bool>& ready);

// GET /metrics in Prometheus' text format. `admit`, where given, is asked first; its error is the
// answer then.
void AddMetricsRoute(httplib::Server& server,
                     std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                     std::function<absl::Status(const httplib::Request&)> admit = nullptr);

}  // namespace dla::server
