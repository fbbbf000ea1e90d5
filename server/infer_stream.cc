#include "server/infer_stream.h"

#include <memory>
#include <utility>

#include "server/infer_job.h"
#include "server/infer_response.h"
#include "server/request_record.h"

namespace dla::server {
namespace {

inference::ModelStreamInferResponse ErrorResponse(const inference::ModelInferRequest& request,
                                                  const absl::Status& status) {
  inference::ModelStreamInferResponse response;
  response.set_error_message(std::string(status.message()));
  response.mutable_infer_response()->set_id(request.id());
  response.mutable_infer_response()->set_model_name(request.model_name());
  return response;
}

// What of a message lives until its answer is sent.
struct Pending {
  inference::ModelInferRequest request;
  InferTask task;
  RequestRecord record;  // holds the model, and with it the budgets
  Shares shares;
};

}  // namespace

void InferStream::Accept(inference::ModelInferRequest message) {
  auto pending = std::make_shared<Pending>(
      Pending{std::move(message),
              {},
              RequestRecord(context_.service.unknown_model, Method::kModelStreamInfer,
                            context_.service.clock),
              {}});
  auto refuse = [&](const absl::Status& status) {
    pending->record.Finish(status.code());
    Send(ErrorResponse(pending->request, status));
  };
  absl::StatusOr<InferTarget> target =
      ResolveInfer(context_, pending->request, client_, pending->record);
  if (!target.ok()) return refuse(target.status());
  absl::StatusOr<Shares> shares =
      AdmitRequest(context_.service.budgets, *target->model, target->caller, target->bytes);
  if (!shares.ok()) return refuse(shares.status());
  pending->shares = *std::move(shares);
  pending->task = std::move(target->task);
  ServedModel& model = *target->model;  // the pipeline holds it until the answer
  InferJob::Start(
      context_.service.pipeline, target->model, pending->task, target->caller,
      Sooner(deadline_, pending->task.timeout, context_.service.clock), cancelled(),
      [this, pending, &model](absl::StatusOr<std::vector<Answer>> answers) {
        pending->shares.Return();  // before the caller may come back
        inference::ModelStreamInferResponse response;
        response.mutable_infer_response()->set_id(pending->request.id());
        absl::Status status = answers.status();
        if (status.ok()) {
          status =
              FillInferResponse(model, pending->task, *answers, *response.mutable_infer_response());
        }
        pending->record.Finish(status.code());
        Send(status.ok() ? std::move(response) : ErrorResponse(pending->request, status));
      });
}

}  // namespace dla::server
