// What the Open Inference Protocol tells of the server and its models, over gRPC and HTTP alike.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "inference/grpc_service.pb.h"
#include "server/inference_service.h"

namespace dla::server {

// NOT_FOUND; INVALID_ARGUMENT without a name, as the protocol has no way to ask for the first
// model. An empty version is the one that is served by default.
absl::StatusOr<std::shared_ptr<ServedModel>> FindInferModel(const ModelRegistry& registry,
                                                            const std::string& name,
                                                            const std::string& version);

absl::Status CheckModelName(absl::string_view name);

// Each answers the call of its name.
absl::Status Tell(const InferenceContext& context, const inference::ModelReadyRequest& request,
                  inference::ModelReadyResponse& response);
absl::Status Tell(const InferenceContext& context, const inference::ServerMetadataRequest& request,
                  inference::ServerMetadataResponse& response);
absl::Status Tell(const InferenceContext& context, const inference::ModelMetadataRequest& request,
                  inference::ModelMetadataResponse& response);
absl::Status Tell(const InferenceContext& context, const inference::ModelConfigRequest& request,
                  inference::ModelConfigResponse& response);
absl::Status Tell(const InferenceContext& context, const inference::ModelStatisticsRequest& request,
                  inference::ModelStatisticsResponse& response);
absl::Status Tell(const InferenceContext& context, const inference::RepositoryIndexRequest& request,
                  inference::RepositoryIndexResponse& response);

// The config that a request to load a model brings along; INVALID_ARGUMENT names a parameter that
// is not supported.
absl::StatusOr<std::string> LoadConfig(const inference::RepositoryModelLoadRequest& request);
absl::Status CheckUnload(const inference::RepositoryModelUnloadRequest& request);

}  // namespace dla::server
