// Photos as the tensor that a network on LibTorch reads.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "model/input_spec.h"
#include "model/normalize.h"
#include "model/photo_input.h"

namespace dla {

// [photos, 3, height, width], normalised, channels-last. `dtype`: kFloat or kBFloat16.
at::Tensor MakeInputTensor(absl::Span<const PhotoInput> photos, const InputSpec& input,
                           const Normalizer& normalizer, at::ScalarType dtype);

}  // namespace dla
