// A unary call that ends when its photos are answered.
#pragma once

#include <memory>

#include "grpcpp/support/server_callback.h"
#include "model/status_macros.h"
#include "server/admission.h"
#include "server/grpc_status.h"
#include "server/photo.h"
#include "server/request_record.h"
#include "server/service_context.h"

namespace dla::server {

// Deletes itself.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  UnaryCall(const ServiceContext& context, Method method)
      : record_(context.unknown_model, method, context.clock), context_(context) {}

  void OnDone() override {
    if (entered_) context_.calls.Leave();
    delete this;
  }
  void OnCancel() override { cancelled_->store(true, std::memory_order_relaxed); }

  // Asks for `model` to take a request with a message of so many bytes.
  absl::Status Enter(std::shared_ptr<ServedModel> model, const Caller& caller, size_t bytes) {
    record_.SetModel(model);
    DLA_RETURN_IF_ERROR(context_.calls.Enter());
    entered_ = true;
    DLA_ASSIGN_OR_RETURN(shares_, AdmitRequest(context_.budgets, *model, caller, bytes));
    return absl::OkStatus();
  }

  // Ends the call. Nothing of the reactor is to be touched afterwards.
  void End(const absl::Status& status) {
    shares_.Return();  // before the caller may come back
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

  const ServiceContext& context_;
  bool entered_ = false;
  Shares shares_;  // of budgets of the model that record_ holds
};

}  // namespace dla::server
