// The JSON header of a safetensors file, before it is checked against the file's data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/safetensors.h"

namespace dla {

struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // at most 32 dimensions, each >= 0
  uint64_t begin = 0;          // into the data that follows the header; not checked
  uint64_t end = 0;
};

// By name; "__metadata__" and unknown fields of a tensor are passed over. INVALID_ARGUMENT, without
// the file's name, for anything else than the format allows. Needs memory in proportion to the
// tensors declared, however the JSON is nested.
absl::StatusOr<absl::btree_map<std::string, TensorInfo>> ParseSafeTensorsHeader(
    absl::string_view json);

}  // namespace dla
