#include "tests/support/shim_launcher.h"

#include <string>

#include "tests/support/cuda_shim.h"

namespace dla::shim::source {
using std::exp;
inline unsigned FloatBits(float value) { return std::bit_cast<unsigned>(value); }
inline float FloatOf(unsigned bits) { return std::bit_cast<float>(bits); }
struct alignas(16) Vector {
  unsigned words[4];
};
#include "model/cuda/pixel_kernels.cu"
}  // namespace dla::shim::source

#undef blockIdx

namespace dla::cuda {

absl::Status ShimLauncher::Launch(int kernel, unsigned blocks, unsigned threads, void** args,
                                  Stream) const {
  const std::string name = PixelKernels::KernelNames()[kernel];
#define KERNEL(symbol, kind)                                                  \
  if (name == #symbol) {                                                      \
    shim::Run(shim::source::symbol, shim::Kind::kind, blocks, threads, args); \
    return absl::OkStatus();                                                  \
  }
  KERNEL(normalize_fp16_3, kThreads)
  KERNEL(normalize_fp16_4, kThreads)
  KERNEL(normalize_fp16_8, kThreads)
  KERNEL(normalize_bf16_3, kThreads)
  KERNEL(normalize_bf16_4, kThreads)
  KERNEL(normalize_bf16_8, kThreads)
  KERNEL(normalize_fp32_3, kThreads)
  KERNEL(normalize_fp32_4, kThreads)
  KERNEL(normalize_fp32_8, kThreads)
  KERNEL(max_pool_fp16, kThreads)
  KERNEL(max_pool_bf16, kThreads)
  KERNEL(max_pool_fp32, kThreads)
  KERNEL(finish_conv_fp16, kThreads)
  KERNEL(finish_conv_bf16, kThreads)
  KERNEL(finish_conv_fp32, kThreads)
  KERNEL(concat, kThreads)
  KERNEL(global_average_fp16, kThreads)
  KERNEL(global_average_bf16, kThreads)
  KERNEL(global_average_fp32, kThreads)
  KERNEL(top_k, kPhases)
  KERNEL(resize_rows, kThreads)
  KERNEL(resize_columns, kThreads)
  KERNEL(fill_pixels, kThreads)
#undef KERNEL
  return absl::NotFoundError(name);
}

}  // namespace dla::cuda
