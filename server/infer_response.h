// From the answers of a request's photos to a ModelInferResponse of the Open Inference Protocol.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
#include "server/infer_request.h"
#include "server/photo.h"
#include "server/served_model.h"

namespace dla::server {

// `answers`: one for each photo of the task, in their order. Sets all but the id. INVALID_ARGUMENT
// where an output does not fit into its shared memory.
absl::Status FillInferResponse(const ServedModel& model, const InferTask& task,
                               const std::vector<Answer>& answers,
                               inference::ModelInferResponse& response);

}  // namespace dla::server
