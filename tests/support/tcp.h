// A TCP connection without any protocol, for what no well-behaved client would send.
#pragma once

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace dla::testing {

// What a client of HTTP/2 says first: the preface and empty settings.
inline const std::string kHttp2Preface =
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string("\0\0\0\x04\0\0\0\0\0", 9);

// Types of frames.
constexpr int kHttp2Ping = 6;
constexpr int kHttp2GoAway = 7;

// Nothing waits for longer than half a minute.
class TcpConnection {
 public:
  // `address` is HOST:PORT with a numeric host.
  explicit TcpConnection(const std::string& address) {
    const size_t colon = address.rfind(':');
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(address.substr(0, colon).c_str(), address.substr(colon + 1).c_str(), &hints,
                    &found) != 0) {
      return;
    }
    socket_ = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connected_ = connect(socket_, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
  }
  ~TcpConnection() {
    if (socket_ >= 0) close(socket_);
  }

  TcpConnection(const TcpConnection&) = delete;
  TcpConnection& operator=(const TcpConnection&) = delete;

  int socket() const { return socket_; }

  // False once the other side is gone.
  bool Send(const std::string& bytes) {
    return connected_ && send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                             static_cast<ssize_t>(bytes.size());
  }

  // What comes next; empty at the end.
  std::string ReadSome() {
    char bytes[4096];
    pollfd wanted = {.fd = socket_, .events = POLLIN, .revents = 0};
    if (!connected_ || poll(&wanted, 1, 30'000) != 1) return "";
    const ssize_t count = recv(socket_, bytes, sizeof bytes, 0);
    return count > 0 ? std::string(bytes, count) : "";
  }

  // All until the other side hangs up.
  std::string ReadAll() {
    std::string all;
    for (std::string some = ReadSome(); !some.empty(); some = ReadSome()) all += some;
    return all;
  }

  // The types of all frames of HTTP/2 until the other side hangs up.
  std::vector<int> ReadFrames() {
    const std::string all = ReadAll();
    const auto byte = [&all](size_t at) { return static_cast<unsigned char>(all[at]); };
    std::vector<int> types;
    for (size_t at = 0; at + 9 <= all.size();) {
      types.push_back(byte(at + 3));
      at += 9 + (byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2));
    }
    return types;
  }

 private:
  int socket_ = -1;
  bool connected_ = false;
};

}  // namespace dla::testing
