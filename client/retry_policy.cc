#include "client/retry_policy.h"

#include <algorithm>
#include <cmath>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace dla::client {

std::optional<absl::Duration> RetryInfoDelay(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& any : details.details()) {
    google::rpc::RetryInfo info;
    if (!any.Is<google::rpc::RetryInfo>() || !any.UnpackTo(&info)) continue;
    const auto& delay = info.retry_delay();
    return std::max(absl::ZeroDuration(),
                    absl::Seconds(delay.seconds()) + absl::Nanoseconds(delay.nanos()));
  }
  return std::nullopt;
}

bool IsRefusal(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
      return true;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return RetryInfoDelay(status).has_value();
    default:
      return false;
  }
}

std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, const grpc::Status& status,
                                         int attempt, absl::Duration time_left, double random) {
  const std::optional<absl::Duration> named = RetryInfoDelay(status);
  if (!IsRefusal(status)) return std::nullopt;
  // 2^20 times the first delay is beyond any sensible bound.
  const double factor = std::ldexp(1.0, std::clamp(attempt - 1, 0, 20));
  const absl::Duration grown =
      std::min(policy.max_delay, named.value_or(policy.first_delay) * factor);
  const absl::Duration delay =
      std::max(grown, named.value_or(absl::ZeroDuration())) * (1 + policy.jitter * random);
  if (delay >= time_left) return std::nullopt;
  return delay;
}

}  // namespace dla::client
