// bf16 products on Intel's AMX tiles (Intel SDM vol. 1, chapter 18): C += A x B, where A holds 16
// pixels x 32 channels, B 32 channels x 16 outputs in pairs, and C 16 pixels x 16 outputs in
// float32.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "model/cpu/conv_kernel.h"
#include "model/cpu/prefetch.h"

#define DLA_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define DLA_AMX_INLINE DLA_AMX __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

constexpr int kTilePixels = 16;
constexpr int kTileBytes = 1024;
constexpr int kPixelBytes = 64;

uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

DLA_AMX_INLINE __m512 Widen(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

struct alignas(64) Sums {
  float low[kTilePixels][16];
  float high[kTilePixels][16];
};

struct Output {
  char* target;
  const char* residual;  // null for none
  bool relu;
};

// Adds the residual, applies the ReLU, rounds and stores.
DLA_AMX_INLINE void Finish(const Sums& sums, const PixelTile& tile, const Output& output) {
  const int64_t at = tile.target * int64_t{kPixelBytes};
  const auto finish_row = [&](int row) DLA_AMX __attribute__((always_inline)) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 low = _mm512_load_ps(sums.low[row]);
    __m512 high = _mm512_load_ps(sums.high[row]);
    if (output.residual != nullptr) {
      const __m512i residual = _mm512_load_si512(output.residual + at + row * kPixelBytes);
      low = _mm512_add_ps(low, Widen(_mm512_castsi512_si256(residual)));
      high = _mm512_add_ps(high, Widen(_mm512_extracti64x4_epi64(residual, 1)));
    }
    if (output.relu) {
      low = _mm512_max_ps(zero, low);  // in this order NaN stays NaN
      high = _mm512_max_ps(zero, high);
    }
    _mm512_store_si512(output.target + at + row * kPixelBytes,
                       (__m512i)_mm512_cvtne2ps_pbh(high, low));
  };
  if (tile.valid == 0xffff) {
    for (int row = 0; row < kTilePixels; ++row) finish_row(row);
    return;
  }
  for (int row = 0; row < kTilePixels; ++row) {
    if (tile.valid >> row & 1) {
      finish_row(row);
    } else if (tile.border >> row & 1) {
      _mm512_store_si512(output.target + at + row * kPixelBytes, _mm512_setzero_si512());
    }
  }
}

class AmxKernel final : public ConvKernel {
 public:
  explicit AmxKernel(const ConvSpec& spec);

  void Run(absl::Span<const ConvPiece> pieces) const override {
    int64_t tiles = 0;
    for (const ConvPiece& piece : pieces) tiles += static_cast<int64_t>(piece.tiles.size());
    const absl::Span<const char> weights(weights_, panels_ * panel_bytes_);
    for (int panel = 0; panel < panels_; ++panel) {
      const int after = (panel + 1) % panels_;
      Prefetch next(weights, after * panel_bytes_, (after + 1) * panel_bytes_,
                    tiles / 2 * static_cast<int64_t>(taps_.size()));
      for (const ConvPiece& piece : pieces) RunPanel(piece.buffers, piece.tiles, panel, next);
    }
  }

 private:
  DLA_AMX void RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles, int panel,
                        Prefetch& next) const;

  const int panels_;
  const std::vector<Tap> taps_;
  const int plane_shift_;
  const int64_t step_bytes_;
  const bool relu_;
  int64_t panel_bytes_;
  std::unique_ptr<char[]> memory_;
  char* weights_;  // [panels][taps][2 tiles]
  float* bias_;    // [panels][32]
};

AmxKernel::AmxKernel(const ConvSpec& spec)
    : panels_(spec.panels),
      taps_(spec.taps),
      plane_shift_(spec.plane_shift),
      step_bytes_(spec.source_step * kPixelBytes),
      relu_(spec.relu) {
  panel_bytes_ = static_cast<int64_t>(taps_.size()) * 2 * kTileBytes;
  memory_ = std::make_unique<char[]>(spec.panels * (panel_bytes_ + 128) + 64);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the next multiple of a cache line
  weights_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) / 64 * 64);
  bias_ = reinterpret_cast<float*>(weights_ + spec.panels * panel_bytes_);
  std::copy_n(spec.bias.data(), spec.panels * kCell, bias_);
  auto* packed = reinterpret_cast<uint16_t*>(weights_);
  const float* from = spec.weights.data();
  for (size_t i = 0; i < spec.panels * taps_.size(); ++i, from += kCell * kCell) {
    for (int column = 0; column < 2; ++column, packed += kTileBytes / 2) {
      for (int k = 0; k < kCell; ++k) {
        for (int n = 0; n < 16; ++n) {
          packed[k / 2 * 32 + n * 2 + k % 2] = ToBf16(from[k * kCell + column * 16 + n]);
        }
      }
    }
  }
}

void AmxKernel::RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles, int panel,
                         Prefetch& next) const {
  absl::InlinedVector<const char*, 64> taps(taps_.size());
  for (size_t i = 0; i < taps.size(); ++i) {
    taps[i] = buffers.sources[taps_[i].plane + panel * plane_shift_] +
              taps_[i].pixel * int64_t{kPixelBytes};
  }
  const char* const weights = weights_ + panel * panel_bytes_;
  const float* const bias = bias_ + panel * kCell;
  const Output output{buffers.targets[panel],
                      buffers.residuals == nullptr ? nullptr : buffers.residuals[panel], relu_};
  Sums sums[2];
  // Tile registers: 0 to 3 are sums of two pixel tiles by two halves of the outputs, 4 and 5
  // pixels, 6 and 7 weights.
  size_t i = 0;
  for (; i + 1 < tiles.size(); i += 2) {
    const int64_t first = tiles[i].source * int64_t{kPixelBytes};
    const int64_t second = tiles[i + 1].source * int64_t{kPixelBytes};
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + 16, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias + 16, 0);
    const char* w = weights;
    for (const char* tap : taps) {
      next.Some();
      _tile_loadd(6, w, 64);
      _tile_loadd(4, tap + first, step_bytes_);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w + kTileBytes, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, tap + second, step_bytes_);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      w += 2 * kTileBytes;
    }
    _tile_stored(0, sums[0].low, 64);
    _tile_stored(1, sums[0].high, 64);
    _tile_stored(2, sums[1].low, 64);
    _tile_stored(3, sums[1].high, 64);
    Finish(sums[0], tiles[i], output);
    Finish(sums[1], tiles[i + 1], output);
  }
  if (i < tiles.size()) {
    const int64_t first = tiles[i].source * int64_t{kPixelBytes};
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + 16, 0);
    const char* w = weights;
    for (const char* tap : taps) {
      _tile_loadd(4, tap + first, step_bytes_);
      _tile_loadd(6, w, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w + kTileBytes, 64);
      _tile_dpbf16ps(1, 4, 7);
      w += 2 * kTileBytes;
    }
    _tile_stored(0, sums[0].low, 64);
    _tile_stored(1, sums[0].high, 64);
    Finish(sums[0], tiles[i], output);
  }
}

// Eight tiles of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// Not a local: GCC 12 takes _tile_loadconfig to read 8 bytes and leaves out the others' stores.
alignas(64) const TileConfig kTileConfig;

// CPUID leaf 7: AMX-BF16 is bit 22 of edx, AMX-TILE bit 24; leaf 7.1: AVX512-BF16 is bit 5 of eax.
bool HasAmxInstructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d >> 22 & 1) == 0 || (d >> 24 & 1) == 0) return false;
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

class AmxKernelSet final : public KernelSet {
 public:
  const char* name() const override { return "amx-bf16"; }
  Element element() const override { return Element::kBf16; }
  int tile_pixels() const override { return kTilePixels; }
  std::unique_ptr<const ConvKernel> MakeConv(const ConvSpec& spec) const override {
    return std::make_unique<AmxKernel>(spec);
  }
  DLA_AMX void BeginThread() const override { _tile_loadconfig(&kTileConfig); }
  DLA_AMX void EndThread() const override { _tile_release(); }
};

}  // namespace

const KernelSet& AmxKernels() {
  static const AmxKernelSet kernels;
  return kernels;
}

bool HasAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  static const bool has =
      HasAmxInstructions() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return has;
}

}  // namespace dla::cpu
