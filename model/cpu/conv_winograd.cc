// 3x3 convolutions with 16 multiplications for each 2x2 pixels instead of 36: F(2x2, 3x3) of Lavin
// and Gray, arXiv 1509.09308. A block of 2x2 output pixels depends on 4x4 input pixels d. With
//   V = B^T d B,  U = G g G^T,  output = A^T [sum over channels of U x V, element by element] A
// each of V's 16 elements goes through a 1x1 convolution of its own. float32 alone: in bf16 the
// transforms would cost accuracy, and AMX is too fast for them to pay.
#include <algorithm>
#include <vector>

#include "model/cpu/aligned_vector.h"
#include "model/cpu/avx512_sums.h"
#include "model/cpu/conv_kernel.h"
#include "model/cpu/prefetch.h"

namespace dla::cpu {
namespace {

constexpr int kElements = 16;  // of V and U
constexpr int kBlocks = kPixels;
constexpr int64_t kBytes = CellBytes(Element::kFloat32);

// So much of V at a time, in bytes: what leaves room in the second cache for the weights.
constexpr int64_t kInputBudget = 768 << 10;

class WinogradKernel final : public ConvKernel {
 public:
  WinogradKernel(const ConvSpec& spec, const PlaneGeometry& geometry);

  void Run(absl::Span<const ConvPiece> pieces) const override;

 private:
  struct Memory;

  DLA_AVX512 DLA_READS_BEYOND void TransformInput(const ConvBuffers& buffers, const PixelTile& tile,
                                                  float* target) const;
  // weights: [planes][32 inputs][32 outputs]
  DLA_AVX512 void Multiply(const float* weights, const float* input, float* sums,
                           Prefetch& next) const;
  DLA_AVX512 void TransformOutput(const ConvBuffers& buffers, const PixelTile& tile, int panel,
                                  const float* sums) const;
  // First pixel of a block, in bytes from the plane's.
  int64_t BlockOffset(int block) const {
    return (int64_t{2} * (block / blocks_per_row_) * geometry_.pitch() +
            2 * (block % blocks_per_row_)) *
           kBytes;
  }
  int64_t InputFloats() const { return int64_t{kElements} * planes_ * kBlocks * kCell; }

  const PlaneGeometry geometry_;
  const int blocks_per_row_;
  const int panels_;
  const int planes_;
  const bool relu_;
  const std::vector<float> bias_;
  AlignedVector<float> weights_;  // U: [panels][elements][planes][32 inputs][32 outputs]
};

WinogradKernel::WinogradKernel(const ConvSpec& spec, const PlaneGeometry& geometry)
    : geometry_(geometry),
      blocks_per_row_((geometry.width + 1) / 2),
      panels_(spec.panels),
      planes_(static_cast<int>(spec.taps.size()) / 9),
      relu_(spec.relu),
      bias_(spec.bias) {
  constexpr float kG[4][3] = {{1, 0, 0}, {0.5F, 0.5F, 0.5F}, {0.5F, -0.5F, 0.5F}, {0, 0, 1}};
  constexpr int kMatrix = kCell * kCell;
  weights_.resize(size_t{kElements} * panels_ * planes_ * kMatrix);
  for (int panel = 0; panel < panels_; ++panel) {
    for (int plane = 0; plane < planes_; ++plane) {
      const float* g = spec.weights.data() + (int64_t{panel} * planes_ + plane) * 9 * kMatrix;
      for (int element = 0; element < kElements; ++element) {
        float* u =
            weights_.data() + ((int64_t{panel} * kElements + element) * planes_ + plane) * kMatrix;
        for (int row = 0; row < 3; ++row) {
          for (int column = 0; column < 3; ++column) {
            const float factor = kG[element / 4][row] * kG[element % 4][column];
            const float* tap = g + (row * 3 + column) * kMatrix;
            for (int i = 0; i < kMatrix; ++i) u[i] += factor * tap[i];
          }
        }
      }
    }
  }
}

// target: [elements][planes][blocks][32]
void WinogradKernel::TransformInput(const ConvBuffers& buffers, const PixelTile& tile,
                                    float* target) const {
  const int64_t row_bytes = geometry_.pitch() * kBytes;
  const int64_t element_floats = int64_t{planes_} * kBlocks * kCell;
  for (int i = 0; i < kBlocks; ++i) {
    if ((tile.valid >> i & 1) == 0) continue;  // what is there is multiplied and ignored
    const int64_t at = BlockOffset(tile.source + i) - row_bytes - kBytes;
    for (int plane = 0; plane < planes_; ++plane) {
      for (int half = 0; half < 2; ++half) {
        const char* d = buffers.sources[plane] + at + half * 64;
        float* out = target + (int64_t{plane} * kBlocks + i) * kCell + half * 16;
        __m512 rows[4][4];  // B^T d
        for (int x = 0; x < 4; ++x, d += kBytes) {
          const __m512 a = _mm512_load_ps(d);
          const __m512 b = _mm512_load_ps(d + row_bytes);
          const __m512 c = _mm512_load_ps(d + 2 * row_bytes);
          const __m512 e = _mm512_load_ps(d + 3 * row_bytes);
          rows[0][x] = _mm512_sub_ps(a, c);
          rows[1][x] = _mm512_add_ps(b, c);
          rows[2][x] = _mm512_sub_ps(c, b);
          rows[3][x] = _mm512_sub_ps(b, e);
        }
        for (int y = 0; y < 4; ++y, out += 4 * element_floats) {
          _mm512_store_ps(out, _mm512_sub_ps(rows[y][0], rows[y][2]));
          _mm512_store_ps(out + element_floats, _mm512_add_ps(rows[y][1], rows[y][2]));
          _mm512_store_ps(out + 2 * element_floats, _mm512_sub_ps(rows[y][2], rows[y][1]));
          _mm512_store_ps(out + 3 * element_floats, _mm512_sub_ps(rows[y][1], rows[y][3]));
        }
      }
    }
  }
}

// input: [planes][blocks][32]; sums: [blocks][32]
void WinogradKernel::Multiply(const float* weights, const float* input, float* sums,
                              Prefetch& next) const {
  Sums products;
  [&]<size_t... kBlock>(std::index_sequence<kBlock...>) DLA_AVX512 {
    ((products.low[kBlock] = _mm512_setzero_ps()), ...);
    ((products.high[kBlock] = _mm512_setzero_ps()), ...);
  }
  (std::make_index_sequence<kBlocks>());
  for (int plane = 0; plane < planes_; ++plane, input += kBlocks * kCell) {
    next.Some();
    for (int k = 0; k < kCell; ++k, weights += kCell) {
      AddProducts<Float32, kBytes, Outputs::kAll>(
          products, reinterpret_cast<const char*>(input + k),
          reinterpret_cast<const uint32_t*>(weights), std::make_index_sequence<kBlocks>());
    }
  }
  [&]<size_t... kBlock>(std::index_sequence<kBlock...>) DLA_AVX512 {
    (_mm512_store_ps(sums + kBlock * kCell, products.low[kBlock]), ...);
    (_mm512_store_ps(sums + kBlock * kCell + 16, products.high[kBlock]), ...);
  }
  (std::make_index_sequence<kBlocks>());
}

// sums: [elements][blocks][32]
void WinogradKernel::TransformOutput(const ConvBuffers& buffers, const PixelTile& tile, int panel,
                                     const float* sums) const {
  constexpr int kElementFloats = kBlocks * kCell;
  const __m512 zero = _mm512_setzero_ps();
  for (int i = 0; i < kBlocks; ++i) {
    if ((tile.valid >> i & 1) == 0) continue;
    const int block = tile.source + i;
    const int rows = std::min(2, geometry_.height - 2 * (block / blocks_per_row_));
    const int columns = std::min(2, geometry_.width - 2 * (block % blocks_per_row_));
    for (int half = 0; half < 2; ++half) {
      const float* m = sums + i * kCell + half * 16;
      __m512 folded[2][4];  // A^T m
      for (int x = 0; x < 4; ++x, m += kElementFloats) {
        const __m512 a = _mm512_load_ps(m);
        const __m512 b = _mm512_load_ps(m + 4 * kElementFloats);
        const __m512 c = _mm512_load_ps(m + 8 * kElementFloats);
        const __m512 d = _mm512_load_ps(m + 12 * kElementFloats);
        folded[0][x] = _mm512_add_ps(_mm512_add_ps(a, b), c);
        folded[1][x] = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
      }
      const __m512 bias = _mm512_loadu_ps(bias_.data() + panel * kCell + half * 16);
      for (int y = 0; y < rows; ++y) {
        const __m512 b = _mm512_add_ps(folded[y][1], bias);
        __m512 pixels[2] = {_mm512_add_ps(_mm512_add_ps(folded[y][0], folded[y][2]), b),
                            _mm512_sub_ps(b, _mm512_add_ps(folded[y][2], folded[y][3]))};
        const int64_t at = BlockOffset(block) + y * geometry_.pitch() * kBytes + half * 64;
        for (int x = 0; x < columns; ++x) {
          if (buffers.residuals != nullptr) {
            const __m512 residual = _mm512_load_ps(buffers.residuals[panel] + at + x * kBytes);
            pixels[x] = _mm512_add_ps(pixels[x], residual);
          }
          if (relu_) pixels[x] = _mm512_max_ps(zero, pixels[x]);  // in this order NaN stays NaN
          _mm512_store_ps(buffers.targets[panel] + at + x * kBytes, pixels[x]);
        }
      }
    }
  }
}

// Each thread's, kept from call to call.
struct WinogradKernel::Memory {
  struct alignas(64) Line {
    float values[16];
  };
  std::vector<Line> input;
  std::vector<Line> sums;

  static float* Reserve(std::vector<Line>& lines, int64_t floats) {
    if (static_cast<int64_t>(lines.size()) * 16 < floats) lines.resize(floats / 16);
    return lines.front().values;
  }
};

void WinogradKernel::Run(absl::Span<const ConvPiece> pieces) const {
  thread_local Memory memory;
  constexpr int64_t kSumFloats = int64_t{kElements} * kBlocks * kCell;
  const int64_t at_once =
      std::max<int64_t>(1, kInputBudget / (InputFloats() * static_cast<int64_t>(sizeof(float))));
  struct Tile {
    const ConvBuffers* buffers;
    const PixelTile* tile;
  };
  std::vector<Tile> tiles;
  for (const ConvPiece& piece : pieces) {
    for (const PixelTile& tile : piece.tiles) tiles.push_back({&piece.buffers, &tile});
  }
  float* const input = Memory::Reserve(memory.input, InputFloats() * at_once);
  float* const sums = Memory::Reserve(memory.sums, kSumFloats * at_once);
  absl::Span<const Tile> left = tiles;
  for (; !left.empty(); left.remove_prefix(std::min<size_t>(at_once, left.size()))) {
    const auto group = left.subspan(0, at_once);
    for (size_t i = 0; i < group.size(); ++i) {
      TransformInput(*group[i].buffers, *group[i].tile, input + i * InputFloats());
    }
    const int64_t matrix = int64_t{planes_} * kCell * kCell;
    const int64_t matrices = int64_t{panels_} * kElements;
    for (int panel = 0; panel < panels_; ++panel) {
      for (int element = 0; element < kElements; ++element) {
        const int64_t at = int64_t{panel} * kElements + element;
        const int64_t after = (at + 1) % matrices;
        Prefetch next(absl::MakeConstSpan(weights_), after * matrix, (after + 1) * matrix,
                      static_cast<int64_t>(group.size()) * planes_);
        for (size_t i = 0; i < group.size(); ++i) {
          const int64_t element_floats = int64_t{planes_} * kBlocks * kCell;
          Multiply(weights_.data() + at * matrix,
                   input + i * InputFloats() + element * element_floats,
                   sums + i * kSumFloats + int64_t{element} * kBlocks * kCell, next);
        }
      }
      for (size_t i = 0; i < group.size(); ++i) {
        TransformOutput(*group[i].buffers, *group[i].tile, panel, sums + i * kSumFloats);
      }
    }
  }
}

}  // namespace

std::unique_ptr<const ConvKernel> MakeWinogradKernel(const ConvSpec& spec,
                                                     const PlaneGeometry& geometry) {
  // Larger weights would come from memory rather than from a cache, and there are more of them.
  constexpr int kMostPlanes = 8;
  // The last tile is computed whole, however few blocks it has.
  const int blocks = ((geometry.height + 1) / 2) * ((geometry.width + 1) / 2);
  const int tiles = (blocks + kBlocks - 1) / kBlocks;
  const int pixel_tiles = (geometry.height * geometry.width + kPixels - 1) / kPixels;
  const bool pays = tiles * kElements * 1.3 < pixel_tiles * 9;
  if (spec.taps.size() > 9 * kMostPlanes || !pays) return nullptr;
  return std::make_unique<WinogradKernel>(spec, geometry);
}

}  // namespace dla::cpu
