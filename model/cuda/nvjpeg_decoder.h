// nvJPEG on CUDA devices.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/cuda/pixel_kernels.h"
#include "model/gpu/jpeg_decoder.h"

namespace dla::cuda {

// One decoder for each way that the devices know, see gpu::Runtime::MakeJpegDecoders. Each device
// is an index as CUDA counts, with its kernels.
using DecodingDevice = std::pair<int, std::shared_ptr<const PixelKernels>>;
absl::StatusOr<std::vector<gpu::NamedJpegDecoder>> MakeNvjpegDecoders(
    absl::Span<const DecodingDevice> devices, int threads);

}  // namespace dla::cuda
