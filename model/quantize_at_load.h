// A float folder that is to be served in int8: quantised each time it is loaded.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "model/dla_model.h"
#include "model/model_files.h"
#include "model/quantization.h"

namespace dla {

// Fewer photos do not show how large values become.
inline constexpr size_t kFewestCalibrationPhotos = 32;

// Decodes and calibrates on the photos that `options` gives. INVALID_ARGUMENT
// where there are too few, with the command of dla-quantize as remedy; FAILED_PRECONDITION where
// the cosine of the embeddings, int8 against float32, is under 0.995 in the mean of these photos.
absl::StatusOr<Quantization> QuantizeAtLoad(const ModelFiles& files, const std::string& folder,
                                            const LoadOptions& options);

}  // namespace dla
