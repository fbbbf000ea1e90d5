// Photos of a model's folder that int8 is calibrated on when a float model is quantised at load.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dla::server {

// The encoded photos in FOLDER/calibration and all folders below (of more than 64, those at even
// distances), else those of the model's self-test, else none. Errors name the photo that cannot be
// read.
absl::StatusOr<std::vector<std::string>> CalibrationPhotos(const std::string& folder);

}  // namespace dla::server
