#include "server/http_routes.h"

#include <iterator>
#include <utility>

#include "httplib.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"
#include "server/http_problem.h"

namespace dla::server {

void AddHealthRoutes(httplib::Server& server, const std::atomic<bool>& ready) {
  server.Get("/v2/health/live", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("live\n", "text/plain");
  });
  auto readiness = [&ready](const httplib::Request&, httplib::Response& response) {
    const bool is_ready = ready.load();
    response.status = is_ready ? 200 : 503;
    response.set_content(is_ready ? "ready\n" : "not ready\n", "text/plain");
  };
  server.Get("/v2/health/ready", readiness);
  server.Get("/healthz", readiness);
}

void AddMetricsRoute(httplib::Server& server,
                     std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                     std::function<absl::Status(const httplib::Request&)> admit) {
  server.Get("/metrics", [collectables = std::move(collectables), admit = std::move(admit)](
                             const httplib::Request& request, httplib::Response& response) {
    if (const absl::Status status = admit ? admit(request) : absl::OkStatus(); !status.ok()) {
      return SetProblem(status, response);
    }
    std::vector<prometheus::MetricFamily> families;
    for (const auto& collectable : collectables) {
      std::vector<prometheus::MetricFamily> more = collectable->Collect();
      families.insert(families.end(), std::make_move_iterator(more.begin()),
                      std::make_move_iterator(more.end()));
    }
    response.set_content(prometheus::TextSerializer().Serialize(families),
                         "text/plain; version=0.0.4; charset=utf-8");
  });
}

}  // namespace dla::server
