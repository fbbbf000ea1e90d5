// absl::Status, used inside, to what goes over the wire. The codes are the same numbers.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"
#include "server/clock.h"

namespace dla::server {

// `status` with a google.rpc.RetryInfo that tells the caller to come back after `delay`, rounded up
// to whole milliseconds, at least 1.
absl::Status WithRetryInfo(absl::Status status, Duration delay);

// What WithRetryInfo has put into it, if anything.
std::optional<Duration> RetryDelayOf(const absl::Status& status);

// With the status' payloads as details.
google::rpc::Status ToRpcStatus(const absl::Status& status);

// The same as gRPC's status; a google.rpc.Status travels in the binary details, as gRPC's richer
// error model has it (https://grpc.io/docs/guides/error/).
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace dla::server
