// A convolution in int8 as the processor runs it: windows of 64 bytes, one for each unit of the
// output, are multiplied where they lie (see planes.h). A unit is one pixel of the output or, where
// windows hold several of the input, two neighbours.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "model/cpu/conv_kernel.h"
#include "model/cpu/planes.h"

namespace dla::cpu {

inline constexpr int kWindow = 64;         // bytes of the input
inline constexpr int kPanelOutputs = 32;   // of a unit, that are computed at once
inline constexpr int kHalfOutputs = 16;    // that lie together in the output
inline constexpr int kMostUnits = 16;      // of a tile
inline constexpr int kSignedOffset = 128;  // what a byte of a signed value is more than the value

struct Int8Tap {
  int plane;
  int32_t offset;  // bytes, from the unit's first pixel
};

// Where 16 outputs go: bytes from the first pixel of the unit, in one of the output's planes.
struct Int8Half {
  int plane = 0;
  int offset = 0;
};

// 32 outputs:
//   y = factor x sum(weights x window) + term  [+ residual_factor x byte of the residual]
struct Int8Panel {
  std::vector<Int8Tap> taps;
  std::vector<int8_t> weights;  // [taps][64 bytes of the window][32 outputs]
  std::array<float, kPanelOutputs> factor{};
  std::array<float, kPanelOutputs> term{};
  std::array<Int8Half, 2> halves;
  std::array<Int8Half, 2> residual_halves;  // the same in the residual
};

// To bytes, y is rounded to nearest even and saturated (0 to 255, which is a ReLU, too), if it is
// below 2^31. Otherwise the ReLU is applied and y is stored in 32-bit floats or bf16.
struct Int8ConvSpec {
  std::vector<Int8Panel> panels;
  int source_cell = 0;   // bytes, in which tiles count
  int source_bytes = 0;  // from one unit's first pixel to the next one's
  int target_cell = 0;
  int target_bytes = 0;
  Element target = Element::kInt8;
  int residual_cell = 0;  // of a residual
  float residual_factor = 0;
  bool relu = false;  // for a target that is not int8
};

// Numbers in a wider type, whose cells hold 32, become bytes: y = factor x number + offset.
struct NarrowSpec {
  Element source = Element::kFloat32;
  std::vector<std::array<Int8Half, 2>> halves;  // for each plane of the source
  int target_cell = 0;
  int target_bytes = 0;
  float factor = 1;
  float offset = 0;
};

// The other way round: number = factor x (byte - offset).
struct WidenSpec {
  Element target = Element::kFloat32;
  std::vector<std::array<Int8Half, 2>> halves;  // for each plane of the target
  int source_cell = 0;
  float factor = 1;
  float offset = 0;
};

// How int8 convolutions run on this processor. Immutable, thread-safe. Kernels' tiles have as many
// units as wide() has pixels in a tile.
class Int8Kernels {
 public:
  virtual ~Int8Kernels() = default;

  virtual const char* name() const = 0;       // "amx-int8", "vnni-int8"
  virtual const KernelSet& wide() const = 0;  // for the convolutions that are not in int8
  virtual std::unique_ptr<const ConvKernel> MakeConv(const Int8ConvSpec& spec) const = 0;
};

std::unique_ptr<const ConvKernel> MakeNarrowKernel(const NarrowSpec& spec);
std::unique_ptr<const ConvKernel> MakeWidenKernel(const WidenSpec& spec);

// The best for this processor; null without AVX-512 and its VNNI instructions.
const Int8Kernels* FindInt8Kernels();

// The ones that exist, whether or not the processor has what they need.
const Int8Kernels& AmxInt8Kernels();
const Int8Kernels& VnniInt8Kernels();
bool HasAmxInt8();
bool HasVnni();

}  // namespace dla::cpu
