// A unary call that ends when its photos are answered.
#pragma once

#include <memory>

#include "grpcpp/support/server_callback.h"
#include "server/grpc_status.h"
#include "server/photo.h"
#include "server/request_record.h"
#include "server/service_context.h"

namespace dla::server {

// Deletes itself.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  UnaryCall(const ServiceContext& context, Method method)
      : record_(context.unknown_model, method, context.clock), calls_(context.calls) {}

  void OnDone() override {
    if (entered_) calls_.Leave();
    delete this;
  }
  void OnCancel() override { cancelled_->store(true, std::memory_order_relaxed); }

  absl::Status Enter() {
    absl::Status status = calls_.Enter();
    entered_ = status.ok();
    return status;
  }

  // Ends the call. Nothing of the reactor is to be touched afterwards.
  void End(const absl::Status& status) {
    record_.Finish(status.code());
    Finish(ToGrpcStatus(status));
  }

 protected:
  RequestRecord record_;
  // Set by the caller, or by the call itself where its other photos need no answer any more.
  const std::shared_ptr<CancelFlag> cancelled_ = std::make_shared<CancelFlag>(false);

 private:
  // OnDone is short and does not block, so gRPC need not wake another thread to run it.
  bool InternalInlineable() override { return true; }

  CallTracker& calls_;
  bool entered_ = false;
};

}  // namespace dla::server
