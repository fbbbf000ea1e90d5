// The text by which users say where a model runs.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla {

struct DeviceChoice {
  enum class Kind { kAuto, kCpu, kCuda };

  Kind kind = Kind::kAuto;
  std::vector<int> indices{};  // of kCuda, as CUDA counts; none: every card

  bool operator==(const DeviceChoice&) const = default;
};

// "auto", "cpu", "cuda", "cuda:1" or "cuda:0,2"; else INVALID_ARGUMENT that lists them.
absl::StatusOr<DeviceChoice> ParseDevice(absl::string_view text);

// "cuda:0,2" of {0, 2}.
std::string CudaDeviceName(const std::vector<int>& indices);

}  // namespace dla
