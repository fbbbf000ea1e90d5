// Writer of the safetensors format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/safetensors.h"

namespace dla {

using TensorsToWrite = std::map<std::string, TensorView>;

// What SafeTensors::Parse reads: the header, padded to a multiple of 8 bytes, and the tensors in
// the order of their names.
std::string SerializeSafeTensors(const TensorsToWrite& tensors);

// Views of values that outlive them, little-endian as on every processor that this runs on.
TensorView ViewOf(const std::vector<float>& values, std::vector<int64_t> shape);
TensorView ViewOf(const float& value);  // a scalar
TensorView ViewOf(const std::vector<int8_t>& values, std::vector<int64_t> shape);

}  // namespace dla
