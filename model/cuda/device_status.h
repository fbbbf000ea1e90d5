// CUDA's errors in the words of model/gpu/runtime.h.
#pragma once

#include <cuda_runtime_api.h>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dla::cuda {

// UNAVAILABLE for an error after which nothing works on the device any more, RESOURCE_EXHAUSTED for
// lack of memory, INTERNAL for others; `doing` ("copying photos") stands in the message. Takes the
// error off the thread, so that the next call does not report it again.
absl::Status DeviceStatus(cudaError_t error, absl::string_view doing);

// Runs `work`, which may throw what LibTorch throws. After an exception `stream` is asked whether
// the device is lost.
absl::Status Guarded(absl::string_view doing, cudaStream_t stream,
                     absl::FunctionRef<absl::Status()> work);

}  // namespace dla::cuda
