// A stream that ends before anything of it is read.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "server/grpc_status.h"

namespace dla::server {

// Deletes itself.
template <typename Request, typename Response>
class RefusedStream final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit RefusedStream(const absl::Status& why) { this->Finish(ToGrpcStatus(why)); }

  void OnDone() override { delete this; }
};

}  // namespace dla::server
