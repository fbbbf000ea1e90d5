// A convolution as the processor runs it, without im2col: the pixels under each tap of the kernel
// are multiplied where they lie (see planes.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "model/cpu/planes.h"

namespace dla::cpu {

// Pixels of the output that follow each other and are computed at once: as many as
// KernelSet::tile_pixels says, or fewer. Pixels count from the plane's first.
struct PixelTile {
  int32_t source;  // input pixel under the kernel's centre for the first one; see source_step
  int32_t target;
  uint16_t valid;   // bit i: the i-th pixel belongs to the output
  uint16_t border;  // bit i: it lies between two rows and becomes zero
};

// An input pixel that an output pixel depends on.
struct Tap {
  int plane;
  int32_t pixel;  // relative to the one under the kernel's centre
};

// activation(sum over taps of input cell x weights + bias + residual)
struct ConvSpec {
  int panels = 0;              // planes of the output
  std::vector<Tap> taps;       // what the output's first plane depends on
  int plane_shift = 0;         // planes from there to what the next one depends on
  int source_step = 1;         // input pixels from one output pixel to the next
  std::vector<float> weights;  // [panels][taps][32 inputs][32 outputs]
  std::vector<float> bias;     // [panels][32]
  bool relu = false;
};

// The planes' first pixels. All are aligned to a cell.
struct ConvBuffers {
  const char* const* sources;    // each plane of the input
  const char* const* residuals;  // each of the output's; null for no residual
  char* const* targets;          // each of the output's
};

// What one call computes of one photo.
struct ConvPiece {
  ConvBuffers buffers;
  absl::Span<const PixelTile> tiles;
};

// Immutable, thread-safe.
class ConvKernel {
 public:
  virtual ~ConvKernel() = default;

  // Computes all planes of the output at these tiles. For tiles that are not full, memory of up to
  // two rows and 32 pixels beyond the input's is read, and ignored.
  virtual void Run(absl::Span<const ConvPiece> pieces) const = 0;
};

// How convolutions run on this processor. Immutable, thread-safe.
class KernelSet {
 public:
  virtual ~KernelSet() = default;

  virtual const char* name() const = 0;  // "amx-bf16", "avx512-bf16", "avx512-fp32"
  virtual Element element() const = 0;
  virtual int tile_pixels() const = 0;  // at most 16
  virtual std::unique_ptr<const ConvKernel> MakeConv(const ConvSpec& spec) const = 0;
  // For a 3x3 convolution with a stride of 1 whose taps are in the order of planes, rows and
  // columns, with fewer multiplications; null where that would not pay. Its tiles count in blocks
  // of 2x2 pixels instead of pixels, row after row.
  virtual std::unique_ptr<const ConvKernel> MakeWinograd(const ConvSpec&,
                                                         const PlaneGeometry&) const {
    return nullptr;
  }

  // To be called by every thread before it runs kernels, and after.
  virtual void BeginThread() const {}
  virtual void EndThread() const {}
};

std::unique_ptr<const ConvKernel> MakeWinogradKernel(const ConvSpec& spec,
                                                     const PlaneGeometry& geometry);

// The best for this processor; null if it lacks what is needed: AVX-512 for float32, and its bf16
// instructions or AMX for bf16.
const KernelSet* FindKernels(Element element);

// The ones that exist, whether or not the processor has what they need.
const KernelSet& AmxKernels();         // bf16
const KernelSet& Avx512Bf16Kernels();  // bf16
const KernelSet& Avx512Kernels();      // float32
bool HasAmx();                         // asks the operating system for permission, too

}  // namespace dla::cpu
