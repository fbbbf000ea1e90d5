// Where gRPC's connections come in, and no more than so many at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_builder.h"
#include "server/budget.h"
#include "server/metrics.h"

namespace dla::server {

// gRPC 1.51 knows no limit, and once accept() fails for want of file descriptors it never accepts
// again: a caller that opens a thousand connections would close the port for good. So the door
// listens itself and hands over what it accepts. Of each connection it keeps a second descriptor,
// by which it learns of its end. Callers beyond the limit are hung up on at once. One address (of
// IPv6, one network of 64 bits) never gets all connections, see Budget.
class ConnectionDoor {
 public:
  // Binds HOST:PORT; port 0 picks a free one. A wildcard takes IPv6, too. The process's limit of
  // open files is raised as far as needed; where it cannot be, fewer connections are let in, and
  // the log says so. UNAVAILABLE if the address cannot be had.
  static absl::StatusOr<std::unique_ptr<ConnectionDoor>> Listen(const std::string& address,
                                                                int max_connections,
                                                                const ConnectionMetrics& metrics);

  ~ConnectionDoor();

  int port() const { return port_; }

  // Connections go to `acceptor` from now on. Called once.
  void Open(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor);

  // Lets nobody in any more. Connections that are open stay. Idempotent.
  void Close();

 private:
  ConnectionDoor(int max_connections, const ConnectionMetrics& metrics);

  absl::Status Bind(const std::string& address);
  void Run();
  void Accept(int listener);
  void Refuse(int connection, absl::string_view reason);

  const ConnectionMetrics metrics_;
  Budget connections_;
  int port_ = 0;
  std::vector<int> listeners_;
  int epoll_ = -1;
  int wake_ = -1;  // an eventfd
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  // By the second descriptor. Of the thread alone.
  absl::flat_hash_map<int, Budget::Share> watched_;
  int64_t refused_ = 0;
  std::thread thread_;
};

}  // namespace dla::server
