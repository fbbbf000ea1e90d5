// gRPC's server with its port, its security and its limits.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server.h"
#include "server/config.h"
#include "server/connection_door.h"
#include "server/metrics.h"
#include "server/tls_credentials.h"

namespace dla::server {

class GrpcDoor {
 public:
  // Serves `services`, which outlive this, with health checking and, unless it is switched off,
  // reflection. `tls` null: plaintext. UNAVAILABLE if the address cannot be had.
  static absl::StatusOr<std::unique_ptr<GrpcDoor>> Start(
      const ServerConfig& config, const std::vector<grpc::Service*>& services,
      std::shared_ptr<TlsCredentials> tls, const ConnectionMetrics& metrics);

  ~GrpcDoor();

  // HOST:PORT with the port that was really bound.
  const std::string& address() const { return address_; }
  grpc::HealthCheckServiceInterface& health() { return *server_->GetHealthCheckService(); }

  // Lets nobody in any more and ends all calls, at `deadline` those that have not ended.
  void Shutdown(std::chrono::system_clock::time_point deadline);

 private:
  GrpcDoor() = default;

  std::string address_;
  std::shared_ptr<TlsCredentials> tls_;  // gRPC asks it until the server is gone
  std::unique_ptr<ConnectionDoor> connections_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace dla::server
