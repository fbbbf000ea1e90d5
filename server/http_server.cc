#include "server/http_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"
#include "server/mutex.h"

namespace dla::server {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kThreads = 8;
constexpr size_t kMaxWaiting = 256;
constexpr size_t kMaxBodyBytes = 4096;  // no route takes a body
constexpr int kMaxRequestBytes = 32 << 10;
constexpr int kBacklog = 1024;
constexpr auto kMaxTime = std::chrono::seconds(5);
constexpr auto kTimeWhileOthersWait = std::chrono::milliseconds(50);

// The connections of one server that no thread has taken up yet.
using Waiting = std::atomic<size_t>;

// Set while a thread is to close the connection that it is given.
thread_local bool hang_up = false;

// One connection, which has so much time and so many bytes, however many pieces they come in: the
// library's own would begin its time anew with each byte. While others wait it has far less time to
// say what it wants, which is plenty for whoever asks at once.
class BoundedStream final : public httplib::Stream {
 public:
  BoundedStream(socket_t socket, const Waiting& waiting) : socket_(socket), waiting_(waiting) {}

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
      const auto passed = SteadyClock::now() - start_;
      const bool hurry = what == POLLIN && waiting_.load(std::memory_order_relaxed) > 0;
      if (passed >= kMaxTime || (hurry && passed >= kTimeWhileOthersWait)) return false;
      pollfd wanted = {.fd = socket_, .events = what, .revents = 0};
      const int count = poll(&wanted, 1, kTimeWhileOthersWait.count());
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
  const Waiting& waiting_;
  const SteadyClock::time_point start_ = SteadyClock::now();
  int unread_ = kMaxRequestBytes;
};

}  // namespace

class HttpServer::Bounded final : public httplib::Server {
 public:
  // Lets more connections wait in the kernel than the library's five, beyond which callers would
  // try again after a second.
  void LengthenBacklog() { (void)::listen(svr_sock_, kBacklog); }

  Waiting& waiting() { return waiting_; }

 private:
  bool process_and_close_socket(socket_t socket) override {
    bool ok = false;
    if (!hang_up) {
      BoundedStream stream(socket, waiting_);
      bool closed = false;
      ok = process_request(stream, /*close_connection=*/true, closed, nullptr);
    }
    ::shutdown(socket, SHUT_RDWR);
    close(socket);
    return ok;
  }

  Waiting waiting_ = 0;
};

// Takes up the newest connection first; hangs up on the oldest where too many wait. So callers who
// hold connections open and say nothing take each other's places.
class HttpServer::Threads final : public httplib::TaskQueue {
 public:
  explicit Threads(Waiting& waiting) : waiting_(waiting) {
    for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Run(); });
  }

  void enqueue(std::function<void()> connection) override {
    std::function<void()> oldest;
    {
      MutexLock lock(mu_);
      connections_.push_back(std::move(connection));
      if (connections_.size() > kMaxWaiting) {
        oldest = std::move(connections_.front());
        connections_.pop_front();
      }
      waiting_ = connections_.size();
    }
    changed_.NotifyOne();
    if (!oldest) return;
    hang_up = true;
    oldest();
    hang_up = false;
  }

  void shutdown() override {
    {
      MutexLock lock(mu_);
      stopping_ = true;
    }
    changed_.NotifyAll();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> newest;
      {
        MutexLock lock(mu_);
        while (connections_.empty() && !stopping_) changed_.Wait(mu_);
        if (connections_.empty()) return;
        newest = std::move(connections_.back());
        connections_.pop_back();
        waiting_ = connections_.size();
      }
      newest();
    }
  }

  Waiting& waiting_;
  Mutex mu_;
  CondVar changed_;
  std::deque<std::function<void()>> connections_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

HttpServer::HttpServer() : server_(std::make_unique<Bounded>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Options& options, const std::function<void(httplib::Server&)>& add_routes) {
  std::unique_ptr<HttpServer> http(new HttpServer());
  Bounded& server = *http->server_;
  server.new_task_queue = [&server] { return new Threads(server.waiting()); };
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
  server.LengthenBacklog();
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
