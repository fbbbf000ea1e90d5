// A small HTTP server: one request for each connection, its own few threads, a bound on the time
// and the bytes of each. Callers that hold connections open and say nothing cannot take it away
// from the others.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"

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
  };

  // Serves the routes that `add_routes` registers; their handlers are called by several threads at
  // once. UNAVAILABLE if the address cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const Options& options, const std::function<void(httplib::Server&)>& add_routes);

  // Finishes the requests in hand.
  ~HttpServer();

  // HOST:PORT with the port that was really bound.
  const std::string& address() const { return address_; }

 private:
  class Bounded;
  class Threads;

  HttpServer();

  const std::unique_ptr<Bounded> server_;
  std::string address_;
  std::thread thread_;
};

}  // namespace dla::server
