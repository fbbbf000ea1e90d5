// Pixels to JPEG, for photos that the program makes itself.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "model/image.h"

namespace dla::codec {

// Baseline, chroma at half the size both ways (4:2:0). quality: 1 .. 100. INVALID_ARGUMENT for
// sides that JPEG cannot hold. Thread-safe.
absl::StatusOr<std::string> WriteJpeg(const Image& image, int quality);

}  // namespace dla::codec
