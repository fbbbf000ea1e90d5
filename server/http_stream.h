// The bytes of one HTTP connection, plain or in TLS, with a bound on how many and how slowly.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <string>

#include "httplib.h"
#include "server/http_connection.h"
#include "server/http_tls.h"

namespace dla::server {

// What all connections of a server share.
struct HttpSharedState {
  // Connections that no thread has taken up yet. While there are some, the others have far less
  // time to say what they want, which is plenty for whoever asks at once.
  std::atomic<size_t> waiting = 0;
  std::atomic<bool> stopping = false;
  int stop_event = -1;  // an eventfd that can be read once `stopping` is set
};

// Times count for all of a request or an answer, however many pieces it comes in: the library's own
// would begin anew with each byte. Not thread-safe.
class HttpStream final : public httplib::Stream, public HttpConnection {
 public:
  // `tls` null: plaintext. Does not own the socket.
  HttpStream(int socket, SslPtr tls, const HttpSharedState& shared);
  ~HttpStream() override;

  // TLS's handshake. False if it fails or takes too long.
  bool Greet();

  // Waits for the next request. False when there is none to come.
  bool AwaitRequest();

  // Whether another request may follow, after an answer to a request that came with a body or not.
  bool Reusable(bool had_body) const {
    return !read_failed_ && !write_failed_ && (!had_body || body_read_);
  }

  // Says that nothing more comes, and takes what the caller is still sending for a moment, so that
  // it reads the answer rather than an error of its own sending.
  void Linger();

  bool is_readable() const override { return !read_failed_; }
  bool is_writable() const override { return !write_failed_; }
  ssize_t read(char* bytes, size_t size) override;
  ssize_t write(const char* bytes, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

  Event Await(int descriptor) override;
  void AllowBody(size_t bytes) override;
  void SetBodyRead() override { body_read_ = true; }
  bool cut_off() const override { return read_failed_; }
  const std::string& certificate_name() const override { return certificate_name_; }

 private:
  using SteadyClock = std::chrono::steady_clock;
  enum class Phase { kIdle, kRequest, kBody, kAnswer };

  void Begin(Phase phase);
  // Whether this phase may go on.
  bool InTime() const;
  // Until the socket is ready; false when it is too late.
  bool AwaitSocket(short what);
  // What recv() or send() says, or their counterparts in TLS; -1 at the end.
  ssize_t ReceiveSome(char* bytes, size_t size);
  ssize_t SendSome(const char* bytes, size_t size);
  // After a call to TLS that did not do all: waits for what it needs.
  bool AwaitTls(int result);

  const int socket_;
  const SslPtr tls_;
  const HttpSharedState& shared_;
  std::string certificate_name_;
  // Each stays so: what was cut off cannot be taken up again. An answer may still be written to a
  // caller who was too slow to send its request.
  bool read_failed_ = false;
  bool write_failed_ = false;
  bool body_read_ = false;

  Phase phase_ = Phase::kIdle;
  SteadyClock::time_point phase_start_;
  size_t phase_bytes_ = 0;
  size_t unread_ = 0;  // what this request may still have

  // Received and not yet read.
  std::array<char, 16 << 10> buffer_;
  size_t buffer_begin_ = 0;
  size_t buffer_end_ = 0;
};

}  // namespace dla::server
