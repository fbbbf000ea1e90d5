// Launches the kernels' own source on the processor.
#pragma once

#include "model/cuda/pixel_kernels.h"

namespace dla::cuda {

// Where a card would be. Everything is done when Launch returns.
class ShimLauncher : public KernelLauncher {
 public:
  absl::Status Launch(int kernel, unsigned blocks, unsigned threads, void** args,
                      Stream stream) const override;
};

}  // namespace dla::cuda
