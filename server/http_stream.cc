#include "server/http_stream.h"

#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace dla::server {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxRequestBytes = 32 << 10;  // without a body
constexpr milliseconds kTick{50};
constexpr size_t kMaxDiscardedBytes = 64 << 20;
constexpr milliseconds kLinger{1000};

// How long a phase may take: so long, and longer by its bytes at the slowest rate.
struct Pace {
  milliseconds time;
  size_t bytes_per_second;

  bool Allows(std::chrono::steady_clock::duration passed, size_t bytes) const {
    return passed < time + milliseconds(bytes * 1000 / bytes_per_second);
  }
};
constexpr Pace kIdlePace = {milliseconds(15'000), 1};
constexpr Pace kRequestPace = {milliseconds(5'000), 16 << 10};
constexpr Pace kBodyPace = {milliseconds(10'000), 16 << 10};
constexpr Pace kPaceWhileOthersWait = {milliseconds(50), 1 << 20};
constexpr Pace kBodyPaceWhileOthersWait = {milliseconds(500), 256 << 10};

thread_local HttpConnection* current = nullptr;

void NameOf(int socket, int (*function)(int, sockaddr*, socklen_t*), std::string& ip, int& port) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST] = "";
  char service[NI_MAXSERV] = "";
  auto* where = reinterpret_cast<sockaddr*>(&address);
  if (function(socket, where, &size) != 0 ||
      getnameinfo(where, size, host, sizeof host, service, sizeof service,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return;
  }
  ip = host;
  port = std::atoi(service);
}

}  // namespace

HttpConnection::HttpConnection() { current = this; }
HttpConnection::~HttpConnection() { current = nullptr; }
HttpConnection& HttpConnection::Current() { return *current; }

HttpStream::HttpStream(int socket, SslPtr tls, const HttpSharedState& shared)
    : socket_(socket), tls_(std::move(tls)), shared_(shared) {
  if (tls_ != nullptr) SSL_set_fd(tls_.get(), socket_);
  Begin(Phase::kRequest);
}

HttpStream::~HttpStream() = default;

void HttpStream::Begin(Phase phase) {
  phase_ = phase;
  phase_start_ = SteadyClock::now();
  phase_bytes_ = 0;
}

bool HttpStream::InTime() const {
  const auto passed = SteadyClock::now() - phase_start_;
  const bool hurry = shared_.waiting.load(std::memory_order_relaxed) > 0;
  switch (phase_) {
    case Phase::kIdle:
      if (shared_.stopping.load(std::memory_order_relaxed)) return false;
      return (hurry ? kPaceWhileOthersWait : kIdlePace).Allows(passed, 0);
    case Phase::kRequest:
      return (hurry ? kPaceWhileOthersWait : kRequestPace).Allows(passed, phase_bytes_);
    case Phase::kBody:
      return (hurry ? kBodyPaceWhileOthersWait : kBodyPace).Allows(passed, phase_bytes_);
    case Phase::kAnswer:
      return kBodyPace.Allows(passed, phase_bytes_);
  }
  return false;
}

bool HttpStream::AwaitSocket(short what) {
  while (InTime()) {
    pollfd wanted = {.fd = socket_, .events = what, .revents = 0};
    const int count = poll(&wanted, 1, static_cast<int>(kTick.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
  return false;
}

bool HttpStream::AwaitTls(int result) {
  switch (SSL_get_error(tls_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return AwaitSocket(POLLIN);
    case SSL_ERROR_WANT_WRITE:
      return AwaitSocket(POLLOUT);
    default:
      return false;
  }
}

bool HttpStream::Greet() {
  if (tls_ == nullptr) return true;
  while (true) {
    ERR_clear_error();
    const int result = SSL_accept(tls_.get());
    if (result == 1) break;
    if (!AwaitTls(result)) return false;
  }
  certificate_name_ = PeerName(*tls_);
  return true;
}

bool HttpStream::AwaitRequest() {
  unread_ = kMaxRequestBytes;
  body_read_ = false;
  Begin(Phase::kIdle);
  if (buffer_begin_ == buffer_end_) {
    buffer_begin_ = 0;
    const ssize_t count = ReceiveSome(buffer_.data(), buffer_.size());
    buffer_end_ = std::max<ssize_t>(count, 0);
    if (count <= 0) return false;
  }
  Begin(Phase::kRequest);
  return true;
}

ssize_t HttpStream::ReceiveSome(char* bytes, size_t size) {
  while (!read_failed_) {
    if (tls_ != nullptr) {
      ERR_clear_error();
      const int count = SSL_read(tls_.get(), bytes, static_cast<int>(size));
      if (count > 0) return count;
      if (!AwaitTls(count)) break;
      continue;
    }
    const ssize_t count = recv(socket_, bytes, size, MSG_DONTWAIT);
    if (count > 0) return count;
    const bool later = count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (!later || !AwaitSocket(POLLIN)) break;
  }
  read_failed_ = true;
  return -1;
}

ssize_t HttpStream::SendSome(const char* bytes, size_t size) {
  while (!write_failed_) {
    if (tls_ != nullptr) {
      ERR_clear_error();
      const int count = SSL_write(tls_.get(), bytes, static_cast<int>(size));
      if (count > 0) return count;
      if (!AwaitTls(count)) break;
      continue;
    }
    const ssize_t count = send(socket_, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) return count;
    const bool later = count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (!later || !AwaitSocket(POLLOUT)) break;
  }
  write_failed_ = true;
  return -1;
}

ssize_t HttpStream::read(char* bytes, size_t size) {
  size = std::min(size, unread_);
  if (size == 0 || !InTime()) {
    read_failed_ = true;
    return -1;
  }
  ssize_t count = 0;
  if (buffer_begin_ < buffer_end_) {
    count = static_cast<ssize_t>(std::min(size, buffer_end_ - buffer_begin_));
    std::memcpy(bytes, buffer_.data() + buffer_begin_, count);
    buffer_begin_ += count;
  } else if (size >= buffer_.size()) {
    count = ReceiveSome(bytes, size);
  } else {
    count = ReceiveSome(buffer_.data(), buffer_.size());
    if (count <= 0) return -1;
    buffer_begin_ = 0;
    buffer_end_ = count;
    return read(bytes, size);
  }
  if (count <= 0) return -1;
  unread_ -= count;
  phase_bytes_ += count;
  return count;
}

ssize_t HttpStream::write(const char* bytes, size_t size) {
  if (phase_ != Phase::kAnswer) Begin(Phase::kAnswer);
  const ssize_t count = SendSome(bytes, size);
  if (count > 0) phase_bytes_ += count;
  return count;
}

void HttpStream::Linger() {
  if (tls_ != nullptr) SSL_shutdown(tls_.get());
  ::shutdown(socket_, SHUT_WR);
  const auto end = SteadyClock::now() + kLinger;
  size_t discarded = 0;
  while (discarded < kMaxDiscardedBytes && SteadyClock::now() < end &&
         shared_.waiting.load(std::memory_order_relaxed) == 0 &&
         !shared_.stopping.load(std::memory_order_relaxed)) {
    pollfd wanted = {.fd = socket_, .events = POLLIN, .revents = 0};
    if (poll(&wanted, 1, static_cast<int>(kTick.count())) <= 0) continue;
    const ssize_t count = recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count <= 0) return;
    discarded += count;
  }
}

HttpConnection::Event HttpStream::Await(int descriptor) {
  while (true) {
    pollfd wanted[] = {{.fd = descriptor, .events = POLLIN, .revents = 0},
                       {.fd = shared_.stop_event, .events = POLLIN, .revents = 0},
                       {.fd = socket_, .events = POLLRDHUP, .revents = 0}};
    if (poll(wanted, std::size(wanted), -1) < 0) continue;
    if (wanted[0].revents != 0) return Event::kReady;
    if (wanted[1].revents != 0) return Event::kStopping;
    if (wanted[2].revents != 0) return Event::kHungUp;
  }
}

void HttpStream::AllowBody(size_t bytes) {
  unread_ += bytes;
  Begin(Phase::kBody);
}

void HttpStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  NameOf(socket_, getpeername, ip, port);
}

void HttpStream::get_local_ip_and_port(std::string& ip, int& port) const {
  NameOf(socket_, getsockname, ip, port);
}

}  // namespace dla::server
