// A stream that ends before anything of it is read.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "server/grpc_status.h"
#include "server/request_record.h"
#include "server/service_context.h"

namespace dla::server {

// Counts the refusal, as of no model. Deletes itself.
template <typename Request, typename Response>
class RefusedStream final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  RefusedStream(const ServiceContext& context, Method method, const absl::Status& why) {
    RequestRecord(context.unknown_model, method, context.clock).Finish(why.code());
    this->Finish(ToGrpcStatus(why));
  }

  void OnDone() override { delete this; }
};

}  // namespace dla::server
