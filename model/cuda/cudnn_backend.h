// A network's operations on a CUDA device: cuDNN's convolutions with bias, residual and ReLU in one
// kernel where it has one, our own kernels for the rest.
#pragma once

#include <memory>

#include "model/conv.h"
#include "model/cuda/pixel_kernels.h"

namespace dla::cuda {

// What the first convolution reads: three channels and zeros, since tensor cores take eight at a
// time.
inline constexpr int kInputChannels = 8;

// dtype: kHalf, kBFloat16 or kFloat.
Element ElementOf(at::ScalarType dtype);

// Channels-last. dtype: kHalf, kBFloat16 or kFloat, the kernels' element. Everything is put on
// `device`, and runs on LibTorch's current stream there. A convolution of a shape that is new to it
// tries what it can run as and keeps the fastest, which a stream that is being captured cannot do:
// to be run once before. `kernels` outlives it.
std::unique_ptr<const Backend> MakeCudnnBackend(at::ScalarType dtype, int device,
                                                const PixelKernels& kernels);

}  // namespace dla::cuda
