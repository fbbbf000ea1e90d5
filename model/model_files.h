// What makes up a model, read and checked but not yet built.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "model/layout.h"
#include "model/model_config.h"
#include "model/quantization.h"
#include "model/safetensors.h"

namespace dla {

struct ModelFiles {
  std::string config_text;
  ModelConfig config;
  NetworkLayout layout;
  SafeTensors checkpoint;
  // Of a folder whose weights are int8; the checkpoint has the rest.
  std::optional<Quantization> quantization;
  // As errors call them.
  std::string config_name;
  std::string checkpoint_name;
};

// FOLDER/config.json and FOLDER/model.safetensors. NOT_FOUND for a missing file; INVALID_ARGUMENT
// for an unknown architecture, an input size that the network cannot take, or tensors that are
// missing, left over, of another shape or of values that no network can have (each named).
absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& folder);

// The model that is compiled in: model/zoo/flowers5.
absl::StatusOr<ModelFiles> EmbeddedModelFiles();

// That model in int8.
absl::StatusOr<Quantization> EmbeddedQuantization(const ModelFiles& embedded);

}  // namespace dla
