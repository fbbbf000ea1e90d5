// Loads a model folder into a Model that runs.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/model.h"

namespace dla {

enum class Precision { kAuto, kFp32, kBf16, kFp16 };

// What runs the network. kFast: the project's own kernels where the processor has what they need,
// else kLibTorch. kLibTorch: ATen's fused oneDNN operations. kReference: plain ATen in NCHW, slow,
// what the others are tested against.
enum class Engine { kFast, kLibTorch, kReference };

struct LoadOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  // kAuto: bf16 where the processor computes it natively (AVX512-BF16 or AMX), fp32 elsewhere.
  Precision precision = Precision::kAuto;
  Engine engine = Engine::kFast;
};

// Reads FOLDER/config.json and FOLDER/model.safetensors. NOT_FOUND for a missing file;
// INVALID_ARGUMENT for an unknown architecture, an input size that the network cannot take, or
// tensors that are missing, left over or of another shape (each named); UNIMPLEMENTED for a device
// or precision that this build or machine does not have.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const LoadOptions& options);

// The model that is compiled into the library: model/zoo/flowers5.
absl::StatusOr<std::unique_ptr<Model>> LoadEmbeddedModel(const LoadOptions& options);

}  // namespace dla
