// The kernels of pixel_kernels.cu as functions. Needs no header of CUDA.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/gpu/element.h"
#include "model/gpu/resize_plan.h"
#include "model/normalize.h"

struct CUstream_st;

namespace dla::cuda {

using Stream = CUstream_st*;  // cudaStream_t

using gpu::Element;

// A tensor [photos, height, width, channels] on the device, 16-byte aligned. A vector of 16 bytes
// holds 8 channels of 16 bits or 4 of 32.
struct Shape {
  int photos;
  int height;
  int width;
  int channels;
};

// Launches kernels of a device. Thread-safe.
class KernelLauncher {
 public:
  virtual ~KernelLauncher() = default;

  // Puts `blocks` x `threads` threads of kernel KernelNames()[kernel] on the stream. args[i] points
  // at a value of the type of its i-th parameter, which is copied before this returns.
  virtual absl::Status Launch(int kernel, unsigned blocks, unsigned threads, void** args,
                              Stream stream) const = 0;
};

// Every function puts work on `stream` of the launcher's device and returns; pointers are to memory
// of that device, and nothing is allocated. Once Warm has run, all of them may be captured into a
// graph. INVALID_ARGUMENT: sizes that a kernel does not take, named; nothing was launched then.
// Thread-safe.
class PixelKernels {
 public:
  explicit PixelKernels(std::unique_ptr<const KernelLauncher> launcher)
      : launcher_(std::move(launcher)) {}

  // As they are called in the source; a KernelLauncher's numbers.
  static absl::Span<const char* const> KernelNames();

  // Whether so many channels are a multiple of a vector.
  static bool Takes(Element element, int channels);

  // Launches each kernel once, with nothing to do: the first launch may load code, which a capture
  // forbids.
  absl::Status Warm(Stream stream) const;

  // photos: `pixels` pixels of R, G, B bytes. out: `channels` values of each pixel, 3, 4 or 8;
  // those from the fourth on are 0. fp32 equals Normalizer in every bit; the others round that to
  // nearest even.
  absl::Status Normalize(const uint8_t* photos, int64_t pixels, const NormalizeFactors& factors,
                         Element element, int channels, void* out, Stream stream) const;

  // The largest of each 2 x 2 pixels; NaN where any is. Height and width are even, channels a
  // multiple of a vector. out: [photos, height / 2, width / 2, channels].
  absl::Status MaxPool2x2(const void* in, const Shape& shape, Element element, void* out,
                          Stream stream) const;

  // y = y + bias + residual, no less than 0 if `relu`: what is left of a convolution, in place.
  // bias: [channels] or null; residual: as y, or null. Channels are a multiple of a vector. In bf16
  // no value may be NaN.
  absl::Status FinishConv(void* y, const Shape& shape, Element element, const float* bias,
                          const void* residual, bool relu, Stream stream) const;

  // Up to 8 tensors of `pixels` pixels each (photos x height x width), side by side in `out`. Each
  // has a multiple of a vector of channels.
  struct Part {
    const void* data;
    int channels;
  };
  static constexpr int kMaxParts = 8;
  absl::Status Concat(absl::Span<const Part> parts, int64_t pixels, Element element, void* out,
                      Stream stream) const;

  // Mean over height and width, added up in float from the first pixel to the last.
  // out: [photos, channels].
  absl::Status GlobalAverage(const void* in, const Shape& shape, Element element, float* out,
                             Stream stream) const;

  // dla::TopK of each row of logits [photos, classes]: 1 <= k <= 32. indices and probabilities:
  // [photos, k]; places beyond `classes` hold -1 and 0.
  static constexpr int kMaxK = 32;
  absl::Status TopK(const float* logits, int photos, int classes, int k, int32_t* indices,
                    float* probabilities, Stream stream) const;

  // An upright photo's pixel (y, x) begins at origin + y * row + x * column; R, G, B bytes.
  struct PhotoView {
    const uint8_t* origin;
    int64_t row;
    int64_t column;
  };
  // tables: a copy of plan.tables. scratch: plan.scratch_bytes(). out: plan.height x plan.width
  // x 3.
  absl::Status Resize(const gpu::ResizePlan& plan, const int32_t* tables, const PhotoView& photo,
                      uint8_t* scratch, uint8_t* out, Stream stream) const;

 private:
  template <typename... Args>
  absl::Status Launch(int kernel, unsigned blocks, unsigned threads, Stream stream,
                      Args... args) const;

  const std::unique_ptr<const KernelLauncher> launcher_;
};

// The view of a photo that is stored as height x width pixels, rows `stride` bytes apart, and is to
// be turned as its EXIF orientation 1..8 says.
PixelKernels::PhotoView Upright(const uint8_t* pixels, int height, int width, int64_t stride,
                                int orientation);

// The source, for NVRTC.
std::string PixelKernelSource();

}  // namespace dla::cuda
