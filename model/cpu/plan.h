// A DLA network as a list of steps for one processor: what is computed in which order, and where it
// lies. Everything that does not depend on the photos is decided here, once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "model/cpu/conv_kernel.h"
#include "model/cpu/int8_conv_kernel.h"
#include "model/cpu/planes.h"
#include "model/folded_conv.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/quantization.h"

namespace dla::cpu {

// An image of some channels between two steps.
struct Value {
  PlaneGeometry geometry;
  int channels = 0;
  bool paired = false;  // see planes.h
  Element element = Element::kFloat32;
  int cell_channels = kCell;
  bool brief = false;  // dead after Plan::photo_steps, so that photos can share its memory
  int strip_rows = 0;  // if not 0, so many rows of it at a time are in a thread's strips: see Stem
  int64_t offset = 0;  // bytes from the begin of the strips, or the photo's memory, brief or not

  int planes() const { return paired ? 1 : (channels + cell_channels - 1) / cell_channels; }
  int64_t cell_bytes() const {
    return element == Element::kInt8 ? cell_channels : CellBytes(element);
  }
  // A plane begins with a cache line.
  int64_t plane_bytes() const { return (geometry.cells() * cell_bytes() + 63) / 64 * 64; }
};

struct Step {
  enum class Kind { kConv, kMaxPool, kAveragePool, kAdd };

  Kind kind;
  std::vector<int> inputs;          // values; a convolution's are joined by channels
  int residual = -1;                // value that a convolution adds, or -1
  int output = 0;                   // value
  bool reads_border = false;        // of its inputs
  bool clears_border = false;       // the output's, since another step reads it
  bool clears_last_halves = false;  // a paired output of odd width
  bool clears_row_ends = false;     // an int8 output, of what tiles wrote behind its rows
  std::array<float, 2> factors{};   // in int8, of what kAdd adds
  // Of a convolution.
  std::unique_ptr<const ConvKernel> kernel;
  // Row after row of the output. The stem's are of one row each, and come in columns: all that are
  // the first of their row, then all that are the second, and so on.
  std::vector<PixelTile> tiles;
  bool tiles_are_blocks = false;  // of 2x2 pixels instead of pixels, see KernelSet::MakeWinograd
  int row_step = 1;               // the stride
  int rows_below = 0;             // rows of the input below the kernel's centre that are read
  // So many tiles go through all panels before the next ones do, so that what they read stays in
  // the processor's caches.
  int64_t chunk_tiles = 0;

  // Rows that a convolution reads for some of its output, those outside the image included.
  RowRange InputRows(RowRange rows) const {
    return {rows.begin * row_step - rows_below, (rows.end - 1) * row_step + rows_below + 1};
  }
};

struct Plan {
  Element element;            // of what is not int8
  std::vector<Value> values;  // the first one is the photo as WindowWriter writes it
  std::vector<Step> steps;
  int stem_steps = 0;  // so many at the begin are convolutions that each read the one before
  // In int8, what takes the place of the first `bytes_steps` where a photo comes as bytes: a step
  // over PhotoBytes.
  std::optional<Step> from_bytes;
  int bytes_steps = 0;
  int photo_steps = 0;      // so many at the begin have few weights: better photo by photo
  int output = 0;           // value before the global average
  int64_t photo_bytes = 0;  // memory for the values of one photo that are not brief
  int64_t brief_bytes = 0;  // and for those that are
  int64_t strip_bytes = 0;  // memory that each thread needs for the strips
};

// For photos of height x width pixels, a size that CheckInputSize accepts.
Plan MakePlan(const NetworkLayout& layout, TensorSource source, int height, int width,
              const KernelSet& kernels);

// The same in int8 for such photos, where `source` gives the weights of what the quantization
// leaves out.
Plan MakeInt8Plan(const NetworkLayout& layout, TensorSource source,
                  const Quantization& quantization, const InputSpec& input,
                  const Int8Kernels& kernels);

}  // namespace dla::cpu
