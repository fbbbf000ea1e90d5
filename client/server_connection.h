// The way to the server, and what to say when there is none.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "grpc/health/v1/health.pb.h"

namespace dla::client {

// The few calls made before and beside the classification. Each fails within this time, so that a
// missing server is noticed at once and not photo by photo.
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

// Where the server is and how to be let in.
struct ServerOptions {
  // HOST:PORT, HOST (port 8001), [IPv6]:PORT or any target that gRPC understands, such as
  // unix:/path.
  std::string address = "localhost:8001";
  bool tls = false;      // implied by each of the next three
  std::string tls_ca;    // PEM file of who must have signed the server's certificate; empty: the
                         // system's
  std::string tls_cert;  // PEM files to prove who calls; both or neither
  std::string tls_key;
  std::string token_file;  // whose first line is sent as bearer token; empty: $DLA_TOKEN, if set
};

class ServerConnection {
 public:
  // Does not connect yet. INVALID_ARGUMENT for files and tokens that are none.
  static absl::StatusOr<ServerConnection> Make(const ServerOptions& options);

  // Plaintext, without a token.
  explicit ServerConnection(const std::string& address);

  // Errors of all calls fit in one line and say what to do. UNAVAILABLE: no server is there.
  absl::StatusOr<dla::v1::Model> GetModel(const std::string& name) const;
  absl::StatusOr<std::vector<dla::v1::Model>> ListModels() const;

  // The state of a model, or of the whole server if `model` is empty. NOT_FOUND: no such model.
  absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> CheckHealth(
      const std::string& model, absl::Duration timeout) const;

  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  ServerConnection(std::string address, std::shared_ptr<grpc::Channel> channel);

  absl::Status Explain(const grpc::Status& status) const;

  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<dla::v1::Classifier::Stub> stub_;
};

// `address` with the default port where it names none.
std::string WithDefaultPort(const std::string& address);

// Whether `address` (HOST:PORT) is this machine by name or number.
bool IsLoopback(const std::string& address);

}  // namespace dla::client
