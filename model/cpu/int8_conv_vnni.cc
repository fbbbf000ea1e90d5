// int8 products on AVX-512's VNNI instructions: 14 units x 32 outputs in 32 bits at a time, each
// instruction adding four products to each of 16 sums.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "model/cpu/aligned_vector.h"
#include "model/cpu/int8_finish.h"
#include "model/cpu/prefetch.h"

// For what reads pixels: beyond the input of a tile that is not full, perhaps where another thread
// writes, which is ignored (see ConvKernel). ThreadSanitizer need not look.
#define DLA_READS_BEYOND __attribute__((noinline, no_sanitize("thread")))

namespace dla::cpu {
namespace {

constexpr int kUnits = 14;

struct Registers {
  __m512i low[kUnits];
  __m512i high[kUnits];
};

class VnniInt8Kernel final : public ConvKernel {
 public:
  explicit VnniInt8Kernel(const Int8ConvSpec& spec);

  void Run(absl::Span<const ConvPiece> pieces) const override {
    int64_t tiles = 0;
    for (const ConvPiece& piece : pieces) tiles += static_cast<int64_t>(piece.tiles.size());
    for (size_t i = 0; i < panels_.size(); ++i) {
      const Panel& panel = panels_[i];
      const Panel& after = panels_[(i + 1) % panels_.size()];
      Prefetch next(absl::MakeConstSpan(weights_), after.weights,
                    after.weights + static_cast<int64_t>(after.parts.size()) * kPartBytes, tiles);
      for (const ConvPiece& piece : pieces) {
        WithStore(panel.store, piece.buffers.residuals != nullptr,
                  [&]<Int8Store kStore, bool kResidual> {
                    RunPanel<kStore, kResidual>(piece.buffers, piece.tiles, panel, next);
                  });
      }
    }
  }

 private:
  static constexpr int kPartBytes = 4 * kPanelOutputs;

  // 4 bytes of a window, for which some weight is not zero.
  struct Part {
    uint16_t tap;
    uint16_t offset;
  };
  struct Panel {
    std::vector<Int8Tap> taps;
    std::vector<Part> parts;
    int64_t weights;  // into weights_: [parts][2][16 outputs][4 inputs]
    Int8Terms terms;
    std::array<Int8Half, 2> halves;
    std::array<Int8Half, 2> residual_halves;
    Int8Store store;
  };

  template <Int8Store kStore, bool kResidual>
  DLA_INT8 void RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles,
                         const Panel& panel, Prefetch& next) const;
  template <size_t... kUnit>
  DLA_INT8 DLA_READS_BEYOND void Multiply(const Panel& panel, const char* const* taps,
                                          int64_t source, Int8Sums& sums,
                                          std::index_sequence<kUnit...>) const;

  Int8ConvSpec shape_;  // without panels
  std::vector<Panel> panels_;
  AlignedVector<int8_t> weights_;
};

VnniInt8Kernel::VnniInt8Kernel(const Int8ConvSpec& spec) : shape_(spec) {
  shape_.panels.clear();
  for (const Int8Panel& from : spec.panels) {
    Panel panel{from.taps,          {},          static_cast<int64_t>(weights_.size()),
                OrderTerms(from),   from.halves, from.residual_halves,
                StoreOf(spec, from)};
    for (size_t tap = 0; tap < from.taps.size(); ++tap) {
      for (int k = 0; k < kWindow; k += 4) {
        const int8_t* const four = from.weights.data() + (tap * kWindow + k) * kPanelOutputs;
        if (std::all_of(four, four + kPartBytes, [](int8_t weight) { return weight == 0; })) {
          continue;
        }
        panel.parts.push_back({static_cast<uint16_t>(tap), static_cast<uint16_t>(k)});
        for (const bool high : {false, true}) {
          for (int column = 0; column < 16; ++column) {
            for (int i = 0; i < 4; ++i) {
              weights_.push_back(four[i * kPanelOutputs + OutputOfColumn(column, high)]);
            }
          }
        }
      }
    }
    panels_.push_back(std::move(panel));
  }
}

// Written with an index sequence, for the compiler keeps an array in registers only if it sees no
// loop over it.
template <size_t... kUnit>
void VnniInt8Kernel::Multiply(const Panel& panel, const char* const* taps, int64_t source,
                              Int8Sums& sums, std::index_sequence<kUnit...>) const {
  Registers registers;
  ((registers.low[kUnit] = registers.high[kUnit] = _mm512_setzero_si512()), ...);
  const int8_t* weights = weights_.data() + panel.weights;
  const int64_t step = shape_.source_bytes;
  for (const Part& part : panel.parts) {
    const char* const from = taps[part.tap] + source + part.offset;
    const __m512i low = _mm512_load_si512(weights);
    const __m512i high = _mm512_load_si512(weights + 64);
    const auto add = [&](size_t unit) DLA_INT8 __attribute__((always_inline)) {
      int32_t four;
      std::memcpy(&four, from + static_cast<int64_t>(unit) * step, sizeof(four));
      const __m512i x = _mm512_set1_epi32(four);
      registers.low[unit] = _mm512_dpbusd_epi32(registers.low[unit], x, low);
      registers.high[unit] = _mm512_dpbusd_epi32(registers.high[unit], x, high);
    };
    (add(kUnit), ...);
    weights += kPartBytes;
  }
  (_mm512_store_si512(sums.low[kUnit], registers.low[kUnit]), ...);
  (_mm512_store_si512(sums.high[kUnit], registers.high[kUnit]), ...);
}

template <Int8Store kStore, bool kResidual>
void VnniInt8Kernel::RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles,
                              const Panel& panel, Prefetch& next) const {
  const TapPointers taps = PointersOf(buffers, panel.taps);
  const Int8Target target = TargetOf(buffers, shape_, panel);
  const Int8Finisher<kStore, kResidual> finisher(panel.terms, shape_.residual_factor, shape_.relu);
  Int8Sums sums;
  for (const PixelTile& tile : tiles) {
    next.Some();
    Multiply(panel, taps.data(), tile.source * int64_t{shape_.source_cell}, sums,
             std::make_index_sequence<kUnits>());
    for (int pair = 0; pair < kUnits / 2; ++pair) finisher.Finish(sums, tile, target, pair);
  }
}

class VnniInt8KernelSet final : public Int8Kernels {
 public:
  const char* name() const override { return "vnni-int8"; }
  const KernelSet& wide() const override {
    return __builtin_cpu_supports("avx512bf16") ? Avx512Bf16Kernels() : Avx512Kernels();
  }
  std::unique_ptr<const ConvKernel> MakeConv(const Int8ConvSpec& spec) const override {
    return std::make_unique<VnniInt8Kernel>(spec);
  }
};

}  // namespace

const Int8Kernels& VnniInt8Kernels() {
  static const VnniInt8KernelSet kernels;
  return kernels;
}

bool HasVnni() {
  return FindKernels(Element::kFloat32) != nullptr && __builtin_cpu_supports("avx512vnni");
}

const Int8Kernels* FindInt8Kernels() {
  if (HasAmxInt8()) return &AmxInt8Kernels();
  return HasVnni() ? &VnniInt8Kernels() : nullptr;
}

}  // namespace dla::cpu
