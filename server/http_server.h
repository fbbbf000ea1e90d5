// A small HTTP server: its own few threads, each with one connection at a time, and a bound on the
// time and the bytes of each request. Callers that hold connections open and say nothing cannot
// take it away from the others.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "server/http_tls.h"
#include "server/metrics.h"

namespace httplib {
class Server;
}

namespace dla::server {

class HttpServer {
 public:
  struct Options {
    std::string address;  // HOST:PORT; port 0 picks a free one
    std::string purpose;  // "metrics", for errors
    std::string flag;     // "--metrics-address", likewise
    int threads = 8;
    std::shared_ptr<const HttpTls> tls = nullptr;  // null: plaintext
    std::optional<ConnectionMetrics> metrics = std::nullopt;
  };

  // Serves the routes that `add_routes` registers; their handlers are called by several threads at
  // once, and find their connection with HttpConnection::Current(). Errors without a body get a
  // problem of RFC 9457. UNAVAILABLE if the address cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const Options& options, const std::function<void(httplib::Server&)>& add_routes);

  // Finishes the requests in hand.
  ~HttpServer();

  // Handlers that wait for something are told to end, as HttpConnection::Await says.
  void EndRequests();

  // HOST:PORT with the port that was really bound.
  const std::string& address() const { return address_; }

 private:
  class Bounded;
  class Threads;

  explicit HttpServer(const Options& options);

  const std::unique_ptr<Bounded> server_;
  std::string address_;
  std::thread thread_;
};

}  // namespace dla::server
