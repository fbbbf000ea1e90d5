// PixelKernels on a card.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "model/cuda/pixel_kernels.h"

namespace dla::cuda {

// Compiled for the card by NVRTC, which takes a fraction of a second, and loaded. NOT_FOUND where
// libnvrtc is not installed.
absl::StatusOr<std::shared_ptr<const PixelKernels>> MakePixelKernels(int device);

}  // namespace dla::cuda
