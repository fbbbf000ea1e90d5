// When a refused request is worth another try.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace dla::client {

struct RetryPolicy {
  absl::Duration first_delay = absl::Milliseconds(100);  // where the server names none; doubles
  absl::Duration max_delay = absl::Seconds(5);           // where the server names no longer one
  double jitter = 0.25;  // adds up to this share, so that clients do not come back all at once
};

// How long to wait after try number `attempt` (1, 2, ...) failed with `status`; nothing if another
// try would fail again or would come after `time_left`. UNAVAILABLE (the server restarts) is worth
// another try, and so is RESOURCE_EXHAUSTED (the queue is full) if google.rpc.RetryInfo says so:
// without it, the request itself is too large. `random` is in [0, 1).
std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, const grpc::Status& status,
                                         int attempt, absl::Duration time_left, double random);

// The delay in the status's google.rpc.RetryInfo, which is never negative; nothing without one.
std::optional<absl::Duration> RetryInfoDelay(const grpc::Status& status);

absl::Status FromGrpc(const grpc::Status& status);

}  // namespace dla::client
