// Loads a model folder into a Model that runs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/gpu/runtime.h"
#include "model/model.h"

namespace dla {

enum class Precision { kAuto, kFp32, kBf16, kFp16, kInt8 };

// What runs the network on a CPU. kFast: the project's own kernels where the processor has what
// they need, else kLibTorch. kLibTorch: ATen's fused oneDNN operations. kReference: plain ATen in
// NCHW, slow, what the others are tested against.
enum class Engine { kFast, kLibTorch, kReference };

struct LoadOptions {
  // As ParseDevice takes it. "auto": every card, if gpu::FindRuntime finds any, else the CPU, which
  // is also what computes in int8.
  std::string device = "auto";
  // kAuto: fp16 on a card; on a CPU int8 for a folder of dla-quantize, else bf16 where it computes
  // that natively (AVX512-BF16 or AMX), fp32 elsewhere. kInt8: such a folder, or a float one that
  // is quantised now.
  Precision precision = Precision::kAuto;
  Engine engine = Engine::kFast;

  // On cards only. 0: as GpuModel::Options.
  int replicas = 0;   // on each
  int max_batch = 0;  // photos; fewer where memory does not suffice

  gpu::Runtime* runtime = nullptr;  // outlives the model; null: gpu::FindRuntime's

  // Gives photos, encoded, to calibrate on: needed to quantise a folder at load, and called then
  // only.
  std::function<absl::StatusOr<std::vector<std::string>>()> calibration_photos = nullptr;
  int calibration_threads = 1;
};

// Builds what ReadModelFiles reads, whose errors come back. FAILED_PRECONDITION for a device,
// UNIMPLEMENTED for a precision that this machine or device does not have; RESOURCE_EXHAUSTED for a
// card whose memory does not suffice; INVALID_ARGUMENT for an int8 folder and another precision, or
// too few photos to calibrate on; FAILED_PRECONDITION if the network is no longer the same in int8.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const LoadOptions& options);

// The model that is compiled into the library: model/zoo/flowers5.
absl::StatusOr<std::unique_ptr<Model>> LoadEmbeddedModel(const LoadOptions& options);

}  // namespace dla
