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

namespace dla::client {

// The few calls made before and beside the classification. Each fails within this time, so that a
// missing server is noticed at once and not photo by photo.
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

class ServerConnection {
 public:
  // `address` is HOST:PORT, HOST (port 8001), [IPv6]:PORT or any target that gRPC understands, such
  // as unix:/path. Does not connect yet.
  explicit ServerConnection(const std::string& address);

  // Errors of both calls fit in one line and say what to do. UNAVAILABLE: no server is there.
  absl::StatusOr<dla::v1::Model> GetModel(const std::string& name) const;
  absl::StatusOr<std::vector<dla::v1::Model>> ListModels() const;

  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
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
