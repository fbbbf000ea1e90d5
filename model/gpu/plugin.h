// Finds the CUDA half of the program, if this machine can run it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "model/gpu/runtime.h"

namespace dla::gpu {

// The cards of this machine. Tried once; later calls give the same answer. The runtime stays until
// the process ends. FAILED_PRECONDITION, with what is missing and the remedy, where there is no
// libdla_cuda.so beside the program or in ../lib/dla-serve, LibTorch's or NVIDIA's libraries are
// not installed, the driver is missing or too old, or there is no card. Thread-safe.
absl::StatusOr<Runtime*> FindRuntime();

// The runtime of one library, see kEntryName. Not to be called twice for the same one.
absl::StatusOr<Runtime*> LoadRuntime(const std::string& path);

// What the library exports under kEntryName. `version` is the caller's; a library of another one
// refuses, since C++ objects go to and fro. Null with the reason in `why`.
using EntryFunction = Runtime* (*)(const char* version, absl::Status* why);
inline constexpr char kEntryName[] = "dla_gpu_runtime";

}  // namespace dla::gpu
