// gRPC's errors in the words that users get.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace dla::client {

// The same code and message; of gRPC's own long messages for a connection that cannot be made, the
// cause alone ("Connection refused"). Never without a message.
absl::Status FromGrpc(const grpc::Status& status);

// Whether gRPC on this side gave up since the call's time had passed.
bool IsLocalTimeout(const grpc::Status& status);

}  // namespace dla::client
