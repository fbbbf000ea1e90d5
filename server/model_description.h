// How the Open Inference Protocol describes a model.
#pragma once

#include "inference/grpc_service.pb.h"
#include "inference/model_config.pb.h"
#include "server/served_model.h"

namespace dla::server {

// Inputs and outputs with their types and shapes; -1 stands for any size. Without the versions.
void FillMetadata(const ServedModel& model, inference::ModelMetadataResponse& message);

// In Triton's terms: max_batch_size is 0, for the first dimension of a request is written out and
// may exceed the largest batch.
void FillConfig(const ServedModel& model, inference::ModelConfig& message);

}  // namespace dla::server
