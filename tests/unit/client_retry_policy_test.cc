#include "client/retry_policy.h"

#include <gtest/gtest.h>

#include "client/grpc_errors.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace dla::client {
namespace {

constexpr absl::Duration kLong = absl::Hours(1);

grpc::Status Refusal(grpc::StatusCode code, absl::Duration retry) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(retry));
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(retry % absl::Seconds(1))));
  google::rpc::Status details;
  details.add_details()->PackFrom(google::rpc::Status());  // something else comes first
  details.add_details()->PackFrom(info);
  return {code, "busy", details.SerializeAsString()};
}

const grpc::Status kUnavailable(grpc::StatusCode::UNAVAILABLE, "draining");
const grpc::Status kTooLarge(grpc::StatusCode::RESOURCE_EXHAUSTED, "message larger than max");

TEST(RetryDelayTest, DoublesUpToTheBoundWhereTheServerNamesNoDelay) {
  const RetryPolicy policy;
  EXPECT_EQ(RetryDelay(policy, kUnavailable, 1, kLong, 0), absl::Milliseconds(100));
  EXPECT_EQ(RetryDelay(policy, kUnavailable, 2, kLong, 0), absl::Milliseconds(200));
  EXPECT_EQ(RetryDelay(policy, kUnavailable, 5, kLong, 0), absl::Milliseconds(1600));
  EXPECT_EQ(RetryDelay(policy, kUnavailable, 7, kLong, 0), absl::Seconds(5));
  EXPECT_EQ(RetryDelay(policy, kUnavailable, 1'000'000, kLong, 0), absl::Seconds(5));
}

TEST(RetryDelayTest, HonoursTheDelayThatTheServerNames) {
  const RetryPolicy policy;
  const auto busy = [](absl::Duration retry) {
    return Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, retry);
  };
  EXPECT_EQ(RetryDelay(policy, busy(absl::Milliseconds(30)), 1, kLong, 0), absl::Milliseconds(30));
  EXPECT_EQ(RetryDelay(policy, busy(absl::Milliseconds(30)), 3, kLong, 0), absl::Milliseconds(120));
  EXPECT_EQ(RetryDelay(policy, busy(absl::Milliseconds(30)), 20, kLong, 0), absl::Seconds(5));
  // Never sooner than asked for, bound or not.
  EXPECT_EQ(RetryDelay(policy, busy(absl::Seconds(20)), 1, kLong, 0), absl::Seconds(20));
  EXPECT_EQ(
      RetryDelay(policy, Refusal(grpc::StatusCode::UNAVAILABLE, absl::Seconds(2)), 1, kLong, 0),
      absl::Seconds(2));
}

TEST(RetryDelayTest, SpreadsClients) {
  EXPECT_EQ(RetryDelay({}, kUnavailable, 1, kLong, 0.5), absl::Microseconds(112'500));
}

TEST(RetryDelayTest, GivesUpWhereTheNextTryWouldComeTooLate) {
  EXPECT_EQ(RetryDelay({}, kUnavailable, 1, absl::Milliseconds(101), 0), absl::Milliseconds(100));
  EXPECT_EQ(RetryDelay({}, kUnavailable, 1, absl::Milliseconds(100), 0), std::nullopt);
  EXPECT_EQ(RetryDelay({}, kUnavailable, 1, -absl::Seconds(1), 0), std::nullopt);
}

TEST(RetryDelayTest, DoesNotRepeatWhatWouldFailAgain) {
  EXPECT_EQ(RetryDelay({}, kTooLarge, 1, kLong, 0), std::nullopt);
  for (auto code :
       {grpc::StatusCode::INVALID_ARGUMENT, grpc::StatusCode::NOT_FOUND, grpc::StatusCode::INTERNAL,
        grpc::StatusCode::DEADLINE_EXCEEDED, grpc::StatusCode::UNAUTHENTICATED}) {
    EXPECT_EQ(RetryDelay({}, Refusal(code, absl::Milliseconds(1)), 1, kLong, 0), std::nullopt)
        << code;
  }
}

TEST(RetryInfoDelayTest, IgnoresBrokenDetails) {
  EXPECT_EQ(RetryInfoDelay(grpc::Status(grpc::StatusCode::UNAVAILABLE, "", "\xff\xff\xff")),
            std::nullopt);
  EXPECT_EQ(RetryInfoDelay(kUnavailable), std::nullopt);
  EXPECT_EQ(RetryInfoDelay(Refusal(grpc::StatusCode::UNAVAILABLE, -absl::Seconds(3))),
            absl::ZeroDuration());
}

TEST(RetryDelayTest, RepeatsWhatAnEndingServerCancelled) {
  const grpc::Status cancelled(grpc::StatusCode::CANCELLED, "CANCELLED");
  EXPECT_EQ(RetryDelay({}, cancelled, 1, kLong, 0), absl::Milliseconds(100));
}

TEST(FromGrpcTest, KeepsCodeAndMessage) {
  EXPECT_EQ(FromGrpc(kUnavailable), absl::UnavailableError("draining"));
  EXPECT_EQ(FromGrpc(grpc::Status::OK), absl::OkStatus());
}

TEST(FromGrpcTest, ShortensWhatGrpcSaysOfAFailedConnection) {
  EXPECT_EQ(FromGrpc({grpc::StatusCode::UNAVAILABLE,
                      "failed to connect to all addresses; last error: UNKNOWN: "
                      "ipv4:127.0.0.1:8001: Failed to connect to remote host: Connection refused"}),
            absl::UnavailableError("Connection refused"));
  EXPECT_EQ(FromGrpc({grpc::StatusCode::INVALID_ARGUMENT, "a: b"}),
            absl::InvalidArgumentError("a: b"));
}

TEST(FromGrpcTest, AlwaysHasAMessage) {
  EXPECT_EQ(FromGrpc({grpc::StatusCode::INTERNAL, ""}), absl::InternalError("INTERNAL"));
}

}  // namespace
}  // namespace dla::client
