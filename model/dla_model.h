// Loads a model folder into a Model that runs.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/gpu/runtime.h"
#include "model/model.h"

namespace dla {

enum class Precision { kAuto, kFp32, kBf16, kFp16 };

// What runs the network on a CPU. kFast: the project's own kernels where the processor has what
// they need, else kLibTorch. kLibTorch: ATen's fused oneDNN operations. kReference: plain ATen in
// NCHW, slow, what the others are tested against.
enum class Engine { kFast, kLibTorch, kReference };

struct LoadOptions {
  // As ParseDevice takes it. "auto": every card, if gpu::FindRuntime finds any, else the CPU.
  std::string device = "auto";
  // kAuto: fp16 on a card; on a CPU bf16 where it computes that natively (AVX512-BF16 or AMX), fp32
  // elsewhere.
  Precision precision = Precision::kAuto;
  Engine engine = Engine::kFast;

  // On cards only. 0: as GpuModel::Options.
  int replicas = 0;   // on each
  int max_batch = 0;  // photos; fewer where memory does not suffice

  gpu::Runtime* runtime = nullptr;  // outlives the model; null: gpu::FindRuntime's
};

// Reads FOLDER/config.json and FOLDER/model.safetensors. NOT_FOUND for a missing file;
// INVALID_ARGUMENT for an unknown architecture, an input size that the network cannot take, or
// tensors that are missing, left over or of another shape (each named); FAILED_PRECONDITION for a
// device, UNIMPLEMENTED for a precision that this machine does not have; RESOURCE_EXHAUSTED for a
// card whose memory does not suffice.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const LoadOptions& options);

// The model that is compiled into the library: model/zoo/flowers5.
absl::StatusOr<std::unique_ptr<Model>> LoadEmbeddedModel(const LoadOptions& options);

}  // namespace dla
