#include "server/connection_door.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/address.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

constexpr int kBacklog = 1024;
// For everything that is not a gRPC connection: models, HTTP, gRPC's own.
constexpr rlim_t kOtherFiles = 256;
constexpr int kWaitForFilesMs = 100;

// As many as the limit of open files allows, once it is raised.
int Affordable(int connections) {
  const rlim_t wanted = 2 * static_cast<rlim_t>(connections) + kOtherFiles;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return connections;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return connections;
  // Half of a small limit stays for the rest.
  const rlim_t rest = std::min(kOtherFiles, limit.rlim_cur / 2);
  const int fewer = std::max(1, static_cast<int>((limit.rlim_cur - rest) / 2));
  spdlog::warn(
      "max_connections={} asked={} reason=\"the limit of open files is {}; raise it with "
      "ulimit -n\"",
      fewer, connections, limit.rlim_cur);
  return fewer;
}

void Allow(int socket, int level, int option) {
  const int on = 1;
  (void)setsockopt(socket, level, option, &on, sizeof on);
}

// -1 with errno.
int ListenOn(const addrinfo& where) {
  const int socket =
      ::socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, where.ai_protocol);
  if (socket < 0) return -1;
  Allow(socket, SOL_SOCKET, SO_REUSEADDR);
  Allow(socket, IPPROTO_TCP, TCP_NODELAY);  // accepted ones inherit it
  if (where.ai_family == AF_INET6) {
    const int off = 0;
    (void)setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (bind(socket, where.ai_addr, where.ai_addrlen) == 0 && listen(socket, kBacklog) == 0) {
    return socket;
  }
  const int error = errno;
  close(socket);
  errno = error;
  return -1;
}

int PortOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void SetPort(addrinfo& where, int port) {
  if (where.ai_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(where.ai_addr)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(where.ai_addr)->sin_port = htons(port);
  }
}

// Whose connection it is. Who has one address of IPv6 has 2^64 of them.
Caller CallerAt(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const in_addr& ip = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
    return {.client = ClientIdOf({reinterpret_cast<const char*>(&ip), sizeof ip})};
  }
  const in6_addr& ip = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  const char* bytes = reinterpret_cast<const char*>(&ip);
  return {.client = ClientIdOf(IN6_IS_ADDR_V4MAPPED(&ip) ? absl::string_view(bytes + 12, 4)
                                                         : absl::string_view(bytes, 8))};
}

}  // namespace

ConnectionDoor::ConnectionDoor(int max_connections, const ConnectionMetrics& metrics)
    : metrics_(metrics),
      connections_({.capacity = max_connections,
                    .owner = "the server",
                    .what = "connections",
                    .flag = "--max-connections"},
                   metrics.open) {}

absl::StatusOr<std::unique_ptr<ConnectionDoor>> ConnectionDoor::Listen(
    const std::string& address, int max_connections, const ConnectionMetrics& metrics) {
  std::unique_ptr<ConnectionDoor> door(new ConnectionDoor(Affordable(max_connections), metrics));
  if (absl::Status bound = door->Bind(address); !bound.ok()) return bound;
  return door;
}

absl::Status ConnectionDoor::Bind(const std::string& address) {
  absl::Status failure = CannotListen("gRPC", address, "--grpc-address");
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wake_ < 0) return failure;
  epoll_event wake = {.events = EPOLLIN, .data = {.fd = wake_}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &wake);

  const HostPort where = SplitAddress(address);
  const bool wildcard = where.host == "0.0.0.0" || where.host == "::";
  const addrinfo hints = {
      .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  // A socket of IPv6's wildcard serves IPv4 as well, where there is IPv6 at all.
  for (const char* host : {wildcard ? "::" : where.host.c_str(), where.host.c_str()}) {
    if (!listeners_.empty()) break;
    if (getaddrinfo(host, absl::StrCat(where.port).c_str(), &hints, &found) != 0) continue;
    const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
    for (addrinfo* one = found; one != nullptr; one = one->ai_next) {
      if (port_ != 0) SetPort(*one, port_);
      const int listener = ListenOn(*one);
      if (listener < 0) {
        if (errno == EADDRINUSE || errno == EACCES) return failure;
        continue;  // one of several addresses of a name, of a kind that this machine lacks
      }
      listeners_.push_back(listener);
      port_ = PortOf(listener);
    }
  }
  return listeners_.empty() ? failure : absl::OkStatus();
}

void ConnectionDoor::Open(
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  for (const int listener : listeners_) {
    epoll_event event = {.events = EPOLLIN, .data = {.fd = listener}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, listener, &event);
  }
  thread_ = std::thread([this] { Run(); });
}

void ConnectionDoor::Close() {
  if (wake_ >= 0) (void)eventfd_write(wake_, 1);
  if (thread_.joinable()) thread_.join();
  for (const int listener : std::exchange(listeners_, {})) close(listener);
}

ConnectionDoor::~ConnectionDoor() {
  Close();
  for (const auto& [watched, share] : watched_) close(watched);
  if (wake_ >= 0) close(wake_);
  if (epoll_ >= 0) close(epoll_);
}

void ConnectionDoor::Run() {
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(epoll_, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == wake_) return;
      if (watched_.erase(fd) > 0) close(fd);
    }
    // Afterwards, as a new connection may get the number of one that has just ended.
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (std::find(listeners_.begin(), listeners_.end(), fd) != listeners_.end()) Accept(fd);
    }
  }
}

void ConnectionDoor::Accept(int listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int connection =
      accept4(listener, reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (connection < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // Others hold them; the caller waits in the kernel's queue.
      pollfd wake = {.fd = wake_, .events = POLLIN, .revents = 0};
      (void)poll(&wake, 1, kWaitForFilesMs);
    }
    return;
  }
  absl::StatusOr<Budget::Share> share = connections_.Take(CallerAt(address), 1);
  if (!share.ok()) return Refuse(connection, share.status().message());
  const int watched = fcntl(connection, F_DUPFD_CLOEXEC, 0);
  // No events but its end, which gRPC causes as well: it shuts a connection down before it closes.
  epoll_event event = {.events = EPOLLET, .data = {.fd = watched}};
  if (watched < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, watched, &event) != 0) {
    if (watched >= 0) close(watched);
    return Refuse(connection, "no more files can be opened");
  }
  watched_.emplace(watched, *std::move(share));
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = listener;
  parameters.fd = connection;
  acceptor_->HandleNewConnection(&parameters);
}

void ConnectionDoor::Refuse(int connection, absl::string_view reason) {
  close(connection);
  metrics_.refused->Increment();
  // Told at the first and then at every doubling, not for each.
  ++refused_;
  if ((refused_ & (refused_ - 1)) == 0) {
    spdlog::warn("connections refused={} open={} reason={}", refused_, watched_.size(),
                 LogValue(reason));
  }
}

}  // namespace dla::server
