#include "server/http_server.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"
#include "server/http_problem.h"
#include "server/http_stream.h"
#include "server/mutex.h"

namespace dla::server {
namespace {

constexpr size_t kMaxWaiting = 256;
constexpr size_t kMaxPathBytes = 2048;
constexpr int kBacklog = 1024;

// Set while a thread is to refuse the connection that it is given.
thread_local bool refuse = false;

bool DeclaresBody(const httplib::Request& request) {
  return request.has_header("Transfer-Encoding") ||
         (request.has_header("Content-Length") &&
          request.get_header_value("Content-Length") != "0");
}

// What to say to whom there is no thread for. Without TLS: a handshake would take one.
std::string Overloaded() {
  const std::string body = ProblemJson(
      503, absl::UnavailableError("too many connections wait for the server; try again later"));
  return absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n",
                      "Content-Type: ", kProblemType, "\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

// What no route takes, whatever it is. 0: nothing of that.
int StatusOfRefusal(const httplib::Request& request) {
  if (request.path.size() > kMaxPathBytes) return 414;
  // One length, or two readers of it might see two requests where there is one.
  const auto [first, last] = request.headers.equal_range("Content-Length");
  for (auto length = first; length != last; ++length) {
    if (std::next(first) != last || length->second.empty() || length->second.size() > 18 ||
        !absl::c_all_of(length->second, absl::ascii_isdigit)) {
      return 400;
    }
  }
  if (request.has_header("Transfer-Encoding")) return 411;
  return 0;
}

// Answers requests with a body that no route takes, without reading it.
void AddNowhere(httplib::Server& server) {
  auto nowhere = [](const httplib::Request&, httplib::Response& response,
                    const httplib::ContentReader&) { response.status = 404; };
  server.Post(".*", nowhere);
  server.Put(".*", nowhere);
  server.Patch(".*", nowhere);
  server.Delete(".*", nowhere);
}

}  // namespace

class HttpServer::Bounded final : public httplib::Server {
 public:
  explicit Bounded(const HttpServer::Options& options)
      : tls_(options.tls), metrics_(options.metrics) {
    if (metrics_.has_value()) metrics_->open.capacity->Set(options.threads);
    shared_.stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  }
  ~Bounded() override { close(shared_.stop_event); }

  // Lets more connections wait in the kernel than the library's five, beyond which callers would
  // try again after a second.
  void LengthenBacklog() { (void)::listen(svr_sock_, kBacklog); }

  HttpSharedState& shared() { return shared_; }

 private:
  bool process_and_close_socket(socket_t socket) override {
    if (refuse) {
      if (metrics_.has_value()) metrics_->refused->Increment();
      static const std::string kAnswer = Overloaded();
      if (tls_ == nullptr) {
        (void)send(socket, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      }
    } else {
      if (metrics_.has_value()) metrics_->open.used->Increment();
      Serve(socket);
      if (metrics_.has_value()) metrics_->open.used->Decrement();
    }
    ::shutdown(socket, SHUT_RDWR);
    close(socket);
    return true;
  }

  void Serve(int socket) {
    SslPtr tls;
    if (tls_ != nullptr && (tls = tls_->NewConnection()) == nullptr) return;
    HttpStream stream(socket, std::move(tls), shared_);
    if (!stream.Greet()) return;
    bool reusable = true;
    while (reusable && stream.AwaitRequest()) {
      bool closed = false;
      bool parsed = false;
      bool body = true;
      const bool ok = process_request(stream, /*close_connection=*/false, closed,
                                      [&](const httplib::Request& request) {
                                        parsed = true;
                                        body = DeclaresBody(request);
                                      });
      reusable = ok && parsed && !closed && stream.Reusable(body);
      if (!stream.Reusable(body)) stream.Linger();
    }
  }

  const std::shared_ptr<const HttpTls> tls_;
  const std::optional<ConnectionMetrics> metrics_;
  HttpSharedState shared_;
};

// Takes up the newest connection first; refuses the oldest where too many wait. So callers who
// hold connections open and say nothing take each other's places.
class HttpServer::Threads final : public httplib::TaskQueue {
 public:
  Threads(int threads, HttpSharedState& shared) : waiting_(shared.waiting) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
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
    refuse = true;
    oldest();
    refuse = false;
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

  std::atomic<size_t>& waiting_;
  Mutex mu_;
  CondVar changed_;
  std::deque<std::function<void()>> connections_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

HttpServer::HttpServer(const Options& options) : server_(std::make_unique<Bounded>(options)) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Options& options, const std::function<void(httplib::Server&)>& add_routes) {
  std::unique_ptr<HttpServer> http(new HttpServer(options));
  Bounded& server = *http->server_;
  std::atomic<bool> threads_started = false;
  server.new_task_queue = [&, threads = options.threads] {
    auto* queue = new Threads(threads, server.shared());
    threads_started = true;
    return queue;
  };
  server.set_tcp_nodelay(true);
  server.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    response.status = StatusOfRefusal(request);
    if (response.status != 0) return httplib::Server::HandlerResponse::Handled;
    response.status = -1;  // as the library has it until a route decides
    return httplib::Server::HandlerResponse::Unhandled;
  });
  server.set_error_handler(FillProblem);
  server.set_post_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    auto& stream = static_cast<HttpStream&>(HttpConnection::Current());
    response.headers.erase("Keep-Alive");
    if (!stream.Reusable(DeclaresBody(request))) {
      response.set_header("Connection", "close");
    } else if (request.version == "HTTP/1.0") {
      response.set_header("Connection", "keep-alive");  // else the caller waits for the end
    }
  });
  // The library's default sets SO_REUSEPORT, with which two servers share a port unnoticed.
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  add_routes(server);
  AddNowhere(server);

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
  while (!server.is_running() || !threads_started) std::this_thread::yield();
  return http;
}

void HttpServer::EndRequests() {
  server_->shared().stopping = true;
  const uint64_t one = 1;
  (void)!write(server_->shared().stop_event, &one, sizeof one);
}

HttpServer::~HttpServer() {
  server_->shared().stopping = true;  // those that are idle do not keep it
  server_->stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace dla::server
