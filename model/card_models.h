// Models on cards instead of on the CPU.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "model/dla_model.h"
#include "model/folded_conv.h"
#include "model/gpu/runtime.h"
#include "model/layout.h"
#include "model/model.h"

namespace dla {

// Where a model is to run.
struct Place {
  gpu::Runtime* runtime = nullptr;  // null: on the CPU
  std::vector<int> cards;           // indices of its devices
};

// Errors as LoadModel's for devices.
absl::StatusOr<Place> ChoosePlace(const LoadOptions& options);

// On place.cards, of which there is at least one. `info` has all but what depends on the device.
absl::StatusOr<std::unique_ptr<Model>> BuildOnCards(ModelInfo info, const NetworkLayout& layout,
                                                    TensorSource source, const Place& place,
                                                    const LoadOptions& options);

}  // namespace dla
