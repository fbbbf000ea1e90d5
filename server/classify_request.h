// Between the wire messages of dla.v1 and what the pipeline takes and gives; shared by all calls.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dla/v1/classifier.pb.h"
#include "grpcpp/server_context.h"
#include "server/clock.h"
#include "server/model_registry.h"
#include "server/photo.h"

namespace dla::server {

struct Target {
  std::shared_ptr<ServedModel> model;
  ClassifyOptions options;
  Caller caller;
};

// INVALID_ARGUMENT when top_k is more than the model has classes.
absl::StatusOr<ClassifyOptions> CheckOptions(const ServedModel& model, uint32_t top_k,
                                             bool include_embedding, bool normalize_embedding);

// Unspecified is interactive. INVALID_ARGUMENT.
absl::StatusOr<Priority> CheckPriority(v1::Priority priority);

// Finds the model and checks the options of a ClassifyRequest or ClassifyBatchRequest.
// NOT_FOUND, INVALID_ARGUMENT.
template <typename Request>
absl::StatusOr<Target> ResolveTarget(const ModelRegistry& registry, const Request& request,
                                     ClientId client) {
  absl::StatusOr<std::shared_ptr<ServedModel>> model = registry.Find(request.model());
  if (!model.ok()) return model.status();
  absl::StatusOr<ClassifyOptions> options = CheckOptions(
      **model, request.top_k(), request.include_embedding(), request.normalize_embedding());
  if (!options.ok()) return options.status();
  absl::StatusOr<Priority> priority = CheckPriority(request.priority());
  if (!priority.ok()) return priority.status();
  return Target{*std::move(model), *options, {.client = client, .priority = *priority}};
}

// The caller's deadline on the server's clock; TimePoint::max() if there is none.
TimePoint DeadlineOf(const grpc::ServerContextBase& context, Clock& clock);

void FillResponse(const ServedModel& model, Answer answer, v1::ClassifyResponse& response);

void FillResult(const ServedModel& model, absl::StatusOr<Answer> answer,
                v1::ClassifyResult& result);

// `with_labels` as GetModel shows it, without as ListModels does.
void FillModel(const ServedModel& model, bool with_labels, v1::Model& message);

}  // namespace dla::server
