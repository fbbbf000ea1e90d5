// int8 products on Intel's AMX tiles (Intel SDM vol. 1, chapter 18): C += A x B, where A holds the
// windows of 16 units, B 64 bytes x 16 outputs in fours, and C 16 units x 16 outputs in 32 bits.
#include <cpuid.h>

#include <algorithm>
#include <cstddef>

#include "model/cpu/aligned_vector.h"
#include "model/cpu/int8_finish.h"
#include "model/cpu/int8_magic.h"
#include "model/cpu/prefetch.h"

#define DLA_AMX   \
  __attribute__(( \
      target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")))
#define DLA_AMX_INLINE DLA_AMX __attribute__((always_inline)) inline

namespace dla::cpu {
namespace {

constexpr int kTileBytes = 1024;
constexpr int kTapBytes = 2 * kTileBytes;

// Two tiles that were multiplied and wait to be finished while the next two are.
struct Waiting {
  static constexpr int kTilePairs = kMostUnits / 2;

  const PixelTile* tiles[2];
  const Int8Sums* sums;
  bool full[2];
  int next = kMostUnits;  // pair of units, those of the second tile after the first's

  // Of one tile.
  template <int kPairs, typename Finisher>
  DLA_AMX_INLINE void Run(const Finisher& finisher, const Int8Target& target) {
    if (next >= kMostUnits) return;
    const int which = next / kTilePairs;
    const int pair = next % kTilePairs;
    next += kPairs;
    if (full[which]) [[likely]] {
      finisher.template FinishFull<kPairs>(sums[which], *tiles[which], target, pair);
      return;
    }
    for (int i = pair; i < pair + kPairs; ++i) {
      finisher.Finish(sums[which], *tiles[which], target, i);
    }
  }

  // Along with one of so many taps' products: if they are many, that is where there is time.
  template <typename Finisher>
  DLA_AMX_INLINE void Some(const Finisher& finisher, const Int8Target& target, size_t taps) {
    if (taps >= 16) {
      Run<1>(finisher, target);
    } else if (taps >= 8) {
      Run<2>(finisher, target);
    }
  }

  template <typename Finisher>
  DLA_AMX_INLINE void Rest(const Finisher& finisher, const Int8Target& target) {
    if (next == 0) {
      Run<8>(finisher, target);
      Run<8>(finisher, target);
    }
    while (next < kMostUnits) Run<1>(finisher, target);
  }
};

class AmxInt8Kernel final : public ConvKernel {
 public:
  explicit AmxInt8Kernel(const Int8ConvSpec& spec);

  void Run(absl::Span<const ConvPiece> pieces) const override {
    int64_t tiles = 0;
    for (const ConvPiece& piece : pieces) tiles += static_cast<int64_t>(piece.tiles.size());
    for (size_t i = 0; i < panels_.size(); ++i) {
      const Panel& panel = panels_[i];
      const Panel& after = panels_[(i + 1) % panels_.size()];
      Prefetch next(absl::MakeConstSpan(weights_), after.weights,
                    after.weights + static_cast<int64_t>(after.taps.size()) * kTapBytes,
                    tiles / 2 * static_cast<int64_t>(panel.taps.size()));
      for (const ConvPiece& piece : pieces) {
        WithStore(
            panel.store, piece.buffers.residuals != nullptr, [&]<Int8Store kStore, bool kResidual> {
              panel.is_magic
                  ? RunPanel<kStore, kResidual, true>(piece.buffers, piece.tiles, panel, next)
                  : RunPanel<kStore, kResidual, false>(piece.buffers, piece.tiles, panel, next);
            });
      }
    }
  }

 private:
  struct Panel {
    std::vector<Int8Tap> taps;
    int64_t weights;  // into weights_: [taps][2 tiles]
    Int8Terms terms;
    bool is_magic;  // see int8_magic.h
    Int8MagicTerms magic;
    std::array<Int8Half, 2> halves;
    std::array<Int8Half, 2> residual_halves;
    Int8Store store;
  };

  template <Int8Store kStore, bool kResidual, bool kMagic>
  DLA_AMX void RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles,
                        const Panel& panel, Prefetch& next) const;

  Int8ConvSpec shape_;  // without panels
  std::vector<Panel> panels_;
  AlignedVector<int8_t> weights_;
};

AmxInt8Kernel::AmxInt8Kernel(const Int8ConvSpec& spec) : shape_(spec) {
  shape_.panels.clear();
  for (const Int8Panel& from : spec.panels) {
    Panel panel{.taps = from.taps,
                .weights = static_cast<int64_t>(weights_.size()),
                .terms = OrderTerms(from),
                .is_magic = false,
                .magic = {},
                .halves = from.halves,
                .residual_halves = from.residual_halves,
                .store = StoreOf(spec, from)};
    panel.is_magic =
        spec.target == Element::kInt8 &&
        OrderMagicTerms(from, spec.residual_cell > 0, spec.residual_factor, panel.magic);
    for (size_t tap = 0; tap < from.taps.size(); ++tap) {
      const int8_t* const window = from.weights.data() + tap * kWindow * kPanelOutputs;
      for (const bool high : {false, true}) {
        for (int k = 0; k < kWindow; k += 4) {
          for (int column = 0; column < 16; ++column) {
            for (int i = 0; i < 4; ++i) {
              weights_.push_back(window[(k + i) * kPanelOutputs + OutputOfColumn(column, high)]);
            }
          }
        }
      }
    }
    panels_.push_back(std::move(panel));
  }
}

template <Int8Store kStore, bool kResidual, bool kMagic>
void AmxInt8Kernel::RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles,
                             const Panel& panel, Prefetch& next) const {
  const TapPointers taps = PointersOf(buffers, panel.taps);
  const Int8Target target = TargetOf(buffers, shape_, panel);
  const auto finisher = [&]() DLA_AMX __attribute__((always_inline)) {
    if constexpr (kMagic) {
      return MagicFinisher<kStore, kResidual>(panel.magic, shape_.residual_factor);
    } else {
      return Int8Finisher<kStore, kResidual>(panel.terms, shape_.residual_factor, shape_.relu);
    }
  }
  ();
  const int8_t* const weights = weights_.data() + panel.weights;
  const int64_t step = shape_.source_bytes;
  Int8Sums sums[2][2];
  Waiting waiting;
  int turn = 0;
  // Tile registers: 0 to 3 are sums of two pixel tiles by two halves of the outputs, 4 and 5
  // pixels, 6 and 7 weights.
  for (size_t i = 0; i < tiles.size(); i += 2, turn ^= 1) {
    // A single last one goes twice, the second time for nothing.
    static constexpr PixelTile kNone{};
    const bool is_pair = i + 1 < tiles.size();
    const int64_t first = tiles[i].source * int64_t{shape_.source_cell};
    const int64_t second = is_pair ? tiles[i + 1].source * int64_t{shape_.source_cell} : first;
    if constexpr (kMagic) {
      _tile_loadd(0, panel.magic.start[0], 0);
      _tile_loadd(1, panel.magic.start[1], 0);
      _tile_loadd(2, panel.magic.start[0], 0);
      _tile_loadd(3, panel.magic.start[1], 0);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    const int8_t* w = weights;
    for (const char* tap : taps) {
      next.Some();
      _tile_loadd(6, w, 64);
      _tile_loadd(4, tap + first, step);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w + kTileBytes, 64);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(5, tap + second, step);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
      w += kTapBytes;
      waiting.Some(finisher, target, taps.size());
    }
    waiting.Rest(finisher, target);
    _tile_stored(0, sums[turn][0].low, 64);
    _tile_stored(1, sums[turn][0].high, 64);
    _tile_stored(2, sums[turn][1].low, 64);
    _tile_stored(3, sums[turn][1].high, 64);
    waiting = {{&tiles[i], is_pair ? &tiles[i + 1] : &kNone},
               sums[turn],
               {tiles[i].valid == 0xffff, is_pair && tiles[i + 1].valid == 0xffff},
               0};
  }
  waiting.Rest(finisher, target);
}

class AmxInt8KernelSet final : public Int8Kernels {
 public:
  const char* name() const override { return "amx-int8"; }
  const KernelSet& wide() const override { return AmxKernels(); }
  std::unique_ptr<const ConvKernel> MakeConv(const Int8ConvSpec& spec) const override {
    return std::make_unique<AmxInt8Kernel>(spec);
  }
};

}  // namespace

const Int8Kernels& AmxInt8Kernels() {
  static const AmxInt8KernelSet kernels;
  return kernels;
}

bool HasAmxInt8() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr int kAmxInt8 = 25;  // CPUID leaf 7, edx
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> kAmxInt8 & 1) == 0) return false;
  return HasVnni() && HasAmx();
}

}  // namespace dla::cpu
