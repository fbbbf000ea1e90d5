// Where gRPC's connections come in, and no more than so many at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "grpcpp/server_builder.h"

namespace dla::server {

// gRPC 1.51 knows no limit, and once accept() fails for want of file descriptors it never accepts
// again: a caller that opens a thousand connections would close the port for good. So the door
// listens itself and hands over what it accepts. Of each connection it keeps a second descriptor,
// by which it learns of its end. Callers beyond the limit are hung up on at once.
class ConnectionDoor {
 public:
  // Binds HOST:PORT; port 0 picks a free one. A wildcard takes IPv6, too. The process's limit of
  // open files is raised as far as needed; where it cannot be, fewer connections are let in, and
  // the log says so. UNAVAILABLE if the address cannot be had.
  static absl::StatusOr<std::unique_ptr<ConnectionDoor>> Listen(const std::string& address,
                                                                int max_connections);

  ~ConnectionDoor();

  int port() const { return port_; }

  // Connections go to `acceptor` from now on. Called once.
  void Open(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor);

  // Lets nobody in any more. Connections that are open stay. Idempotent.
  void Close();

  // Connections that are open, and those that were hung up on. Thread-safe.
  int open() const { return open_.load(std::memory_order_relaxed); }
  int64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  explicit ConnectionDoor(int max_connections) : max_connections_(max_connections) {}

  absl::Status Bind(const std::string& address);
  void Run();
  void Accept(int listener);
  void Refuse(int connection);

  const int max_connections_;
  int port_ = 0;
  std::vector<int> listeners_;
  int epoll_ = -1;
  int wake_ = -1;  // an eventfd
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  absl::flat_hash_set<int> watched_;  // the second descriptors; of the thread alone
  std::atomic<int> open_ = 0;
  std::atomic<int64_t> refused_ = 0;
  std::thread thread_;
};

}  // namespace dla::server
