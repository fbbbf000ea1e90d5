#include "server/http_server.h"

#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"

namespace dla::server {
namespace {

constexpr int kThreads = 2;
constexpr size_t kMaxBodyBytes = 4096;  // no route takes a body
constexpr int kTimeoutSeconds = 5;

}  // namespace

HttpServer::HttpServer() : server_(std::make_unique<httplib::Server>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Options& options, const std::function<void(httplib::Server&)>& add_routes) {
  std::unique_ptr<HttpServer> http(new HttpServer());
  httplib::Server& server = *http->server_;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_payload_max_length(kMaxBodyBytes);
  server.set_read_timeout(kTimeoutSeconds);
  server.set_write_timeout(kTimeoutSeconds);
  // A connection that is kept open would keep a thread.
  server.set_keep_alive_max_count(1);
  // The library's default sets SO_REUSEPORT, with which two servers share a port unnoticed.
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  add_routes(server);

  const HostPort where = SplitAddress(options.address);
  int port = where.port;
  if (port == 0) {
    port = server.bind_to_any_port(where.host.c_str());
  } else if (!server.bind_to_port(where.host.c_str(), port)) {
    port = -1;
  }
  if (port <= 0) return CannotListen(options.purpose, options.address, options.flag);
  http->address_ = WithPort(options.address, port);
  http->thread_ = std::thread([&server] { server.listen_after_bind(); });
  // stop() does nothing before the thread has begun to listen.
  while (!server.is_running()) std::this_thread::yield();
  return http;
}

HttpServer::~HttpServer() {
  server_->stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace dla::server
