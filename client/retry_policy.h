// When a refused request is worth another try.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/time/time.h"

namespace dla::client {

struct RetryPolicy {
  absl::Duration first_delay = absl::Milliseconds(100);  // where the server names none; doubles
  absl::Duration max_delay = absl::Seconds(5);           // where the server names no longer one
  double jitter = 0.25;  // adds up to this share, so that clients do not come back all at once
};

// Whether the server did not take the request up, but may do so later: UNAVAILABLE (it restarts),
// CANCELLED (it ended before the answer; for calls that this side did not cancel), and
// RESOURCE_EXHAUSTED (its queue is full) if google.rpc.RetryInfo says so: without it, the request
// itself is too large.
bool IsRefusal(const grpc::Status& status);

// How long to wait after try number `attempt` (1, 2, ...) failed with `status`; nothing if it is no
// refusal or if the next try would come after `time_left`. `random` is in [0, 1).
std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, const grpc::Status& status,
                                         int attempt, absl::Duration time_left, double random);

// The delay in the status's google.rpc.RetryInfo, which is never negative; nothing without one.
std::optional<absl::Duration> RetryInfoDelay(const grpc::Status& status);

}  // namespace dla::client
