#include "client/grpc_errors.h"

#include <cstddef>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace dla::client {
namespace {

// The end of such messages as "failed to connect to all addresses; last error: UNKNOWN:
// ipv4:127.0.0.1:8001: Failed to connect to remote host: Connection refused".
absl::string_view Cause(absl::string_view message) {
  if (!absl::StartsWith(message, "failed to connect") &&
      !absl::StartsWith(message, "DNS resolution failed")) {
    return message;
  }
  const size_t colon = message.rfind(": ");
  return colon == absl::string_view::npos ? message : message.substr(colon + 2);
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  if (status.error_message().empty()) return absl::Status(code, absl::StatusCodeToString(code));
  return absl::Status(code, Cause(status.error_message()));
}

bool IsLocalTimeout(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
         status.error_message() == "Deadline Exceeded";
}

}  // namespace dla::client
