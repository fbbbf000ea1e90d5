#include "server/http_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"
#include "server/mutex.h"

namespace dla::server {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kThreads = 8;
constexpr size_t kMaxBodyBytes = 4096;  // no route takes a body
constexpr int kMaxRequestBytes = 32 << 10;
constexpr auto kMaxTime = std::chrono::seconds(5);

// One connection, which has so much time and so many bytes, however many pieces they come in. The
// library's own would begin its time anew with each byte.
class BoundedStream final : public httplib::Stream {
 public:
  explicit BoundedStream(socket_t socket) : socket_(socket) {}

  bool is_readable() const override { return Await(POLLIN); }
  bool is_writable() const override { return Await(POLLOUT); }

  ssize_t read(char* bytes, size_t size) override {
    size = std::min(size, static_cast<size_t>(unread_));
    if (size == 0 || !Await(POLLIN)) return -1;
    const ssize_t count = recv(socket_, bytes, size, 0);
    if (count > 0) unread_ -= static_cast<int>(count);
    return count;
  }

  ssize_t write(const char* bytes, size_t size) override {
    if (!Await(POLLOUT)) return -1;
    return send(socket_, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    NameOf(getpeername, ip, port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    NameOf(getsockname, ip, port);
  }
  socket_t socket() const override { return socket_; }

 private:
  bool Await(short what) const {
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - SteadyClock::now());
      if (left.count() <= 0) return false;
      pollfd wanted = {.fd = socket_, .events = what, .revents = 0};
      const int count = poll(&wanted, 1, static_cast<int>(left.count()));
      if (count > 0) return true;
      if (count < 0 && errno != EINTR) return false;
    }
  }

  template <typename Function>
  void NameOf(Function function, std::string& ip, int& port) const {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    char host[NI_MAXHOST] = "";
    char service[NI_MAXSERV] = "";
    auto* where = reinterpret_cast<sockaddr*>(&address);
    if (function(socket_, where, &size) != 0 ||
        getnameinfo(where, size, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
      return;
    }
    ip = host;
    port = std::atoi(service);
  }

  const socket_t socket_;
  const SteadyClock::time_point end_ = SteadyClock::now() + kMaxTime;
  int unread_ = kMaxRequestBytes;
};

}  // namespace

// Where every thread has a connection that is slow to say what it wants and another one comes, the
// one that has been there longest is hung up on. So callers who open connections and say nothing
// take the place of each other, and who asks at once is answered.
class HttpServer::Bounded final : public httplib::Server {
 public:
  // To be called before a connection waits for a thread.
  void MakeRoom() {
    MutexLock lock(mu_);
    ++waiting_;
    if (static_cast<int>(connections_.size()) + waiting_ <= kThreads) return;
    for (Connection& connection : connections_) {  // the oldest first
      if (connection.hung_up) continue;
      connection.hung_up = true;
      ::shutdown(connection.socket, SHUT_RDWR);
      return;
    }
  }

 private:
  struct Connection {
    socket_t socket;
    bool hung_up;
  };

  bool process_and_close_socket(socket_t socket) override {
    {
      MutexLock lock(mu_);
      --waiting_;
      connections_.push_back({socket, false});
    }
    BoundedStream stream(socket);
    bool closed = false;
    const bool ok = process_request(stream, /*close_connection=*/true, closed, nullptr);
    {
      MutexLock lock(mu_);
      connections_.erase(
          std::find_if(connections_.begin(), connections_.end(),
                       [socket](const Connection& each) { return each.socket == socket; }));
    }
    ::shutdown(socket, SHUT_RDWR);
    close(socket);
    return ok;
  }

  Mutex mu_;
  std::vector<Connection> connections_ ABSL_GUARDED_BY(mu_);
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;
};

class HttpServer::Threads final : public httplib::TaskQueue {
 public:
  explicit Threads(Bounded& server) : server_(server), threads_(kThreads) {}

  void enqueue(std::function<void()> connection) override {
    server_.MakeRoom();
    threads_.enqueue(std::move(connection));
  }
  void shutdown() override { threads_.shutdown(); }

 private:
  Bounded& server_;
  httplib::ThreadPool threads_;
};

HttpServer::HttpServer() : server_(std::make_unique<Bounded>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Options& options, const std::function<void(httplib::Server&)>& add_routes) {
  std::unique_ptr<HttpServer> http(new HttpServer());
  Bounded& server = *http->server_;
  server.new_task_queue = [&server] { return new Threads(server); };
  server.set_payload_max_length(kMaxBodyBytes);
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
