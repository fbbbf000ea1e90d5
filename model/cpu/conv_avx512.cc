// Products on AVX-512 registers: 14 pixels x 32 outputs in float32 at a time, either from float32
// (vfmadd) or from pairs of bf16 (vdpbf16ps, which adds two products at once).
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "model/cpu/aligned_vector.h"
#include "model/cpu/avx512_sums.h"
#include "model/cpu/conv_kernel.h"
#include "model/cpu/prefetch.h"

namespace dla::cpu {
namespace {

uint32_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

struct Bf16 {
  static constexpr Element kElement = Element::kBf16;
  static constexpr int kInputs = 2;

  static uint32_t Pack(const float* weights) {
    return ToBf16(weights[0]) | ToBf16(weights[kCell]) << 16;
  }
  DLA_AVX512_INLINE __m512i Spread(const char* input) {
    int32_t pair;
    std::memcpy(&pair, input, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  DLA_AVX512_INLINE __m512 Product(__m512 sum, __m512i input, __m512i weights) {
    return _mm512_dpbf16_ps(sum, (__m512bh)input, (__m512bh)weights);
  }
  DLA_AVX512_INLINE void Load(const char* cell, __m512& low, __m512& high) {
    const __m512i both = _mm512_load_si512(cell);
    low = _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(both)), 16));
    high = _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1)), 16));
  }
  DLA_AVX512_INLINE void Store(char* cell, __m512 low, __m512 high) {
    _mm512_store_si512(cell, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
};

template <typename Type>
class Avx512Kernel final : public ConvKernel {
 public:
  explicit Avx512Kernel(const ConvSpec& spec);

  void Run(absl::Span<const ConvPiece> pieces) const override {
    int64_t tiles = 0;
    for (const ConvPiece& piece : pieces) tiles += static_cast<int64_t>(piece.tiles.size());
    const int panels = static_cast<int>(first_part_.size()) - 1;
    for (int panel = 0; panel < panels; ++panel) {
      const int after = (panel + 1) % panels;
      const int64_t parts = first_part_[panel + 1] - first_part_[panel];
      Prefetch next(absl::MakeConstSpan(weights_), first_weight_[after], first_weight_[after + 1],
                    parts * tiles);
      for (const ConvPiece& piece : pieces) RunPanel(piece.buffers, piece.tiles, panel, next);
    }
  }

 private:
  static constexpr int64_t kBytes = CellBytes(Type::kElement);

  // What one panel computes with some inputs of a tap. Weights that are zero for all outputs, or
  // for a half of them, are left out.
  struct Part {
    int tap;
    Outputs outputs;
    int begin, end;   // into inputs_
    int64_t weights;  // into weights_
  };

  template <int64_t kStep, Outputs kOutputs>
  DLA_AVX512_INLINE void RunPart(const Part& part, const uint16_t* inputs, const uint32_t* weights,
                                 const char* cell, Sums& sums) {
    constexpr int kWeights = kOutputs == Outputs::kAll ? 32 : 16;
    for (int i = part.begin; i < part.end; ++i, weights += kWeights) {
      AddProducts<Type, kStep, kOutputs>(sums, cell + inputs[i], weights,
                                         std::make_index_sequence<kPixels>());
    }
  }

  void AddPart(int tap, Outputs outputs, const float* weights);

  DLA_AVX512 void RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles, int panel,
                           Prefetch& next) const;
  // taps: first pixel of each; source: bytes from there to the tile's first.
  template <int64_t kStep>
  DLA_AVX512 DLA_READS_BEYOND void AddParts(absl::Span<const Part> parts, const char* const* taps,
                                            int64_t source, Sums& result, Prefetch& next) const;
  DLA_AVX512 void Finish(const Sums& sums, const PixelTile& tile, const char* residual,
                         char* target) const;

  const std::vector<Tap> taps_;
  const int plane_shift_;
  const int64_t step_bytes_;
  const bool relu_;
  const std::vector<float> bias_;
  std::vector<Part> parts_;
  std::vector<int> first_part_;  // of each panel, and the end
  std::vector<int64_t> first_weight_;
  std::vector<uint16_t> inputs_;  // bytes from a cell's begin
  AlignedVector<uint32_t> weights_;
};

template <typename Type>
Avx512Kernel<Type>::Avx512Kernel(const ConvSpec& spec)
    : taps_(spec.taps),
      plane_shift_(spec.plane_shift),
      step_bytes_(spec.source_step * kBytes),
      relu_(spec.relu),
      bias_(spec.bias) {
  const float* weights = spec.weights.data();
  for (int panel = 0; panel < spec.panels; ++panel) {
    first_part_.push_back(static_cast<int>(parts_.size()));
    first_weight_.push_back(static_cast<int64_t>(weights_.size()));
    for (size_t tap = 0; tap < taps_.size(); ++tap, weights += kCell * kCell) {
      for (const Outputs outputs : {Outputs::kAll, Outputs::kLow, Outputs::kHigh}) {
        AddPart(static_cast<int>(tap), outputs, weights);
      }
    }
  }
  first_part_.push_back(static_cast<int>(parts_.size()));
  first_weight_.push_back(static_cast<int64_t>(weights_.size()));
}

// Adds the part of a tap's inputs that matter to just these outputs.
template <typename Type>
void Avx512Kernel<Type>::AddPart(int tap, Outputs outputs, const float* weights) {
  auto matters = [](const float* begin, const float* end) {
    return std::any_of(begin, end, [](float weight) { return weight != 0; });
  };
  Part part{tap, outputs, static_cast<int>(inputs_.size()), 0,
            static_cast<int64_t>(weights_.size())};
  for (int k = 0; k < kCell; k += Type::kInputs) {
    bool low = false;
    bool high = false;
    for (int i = 0; i < Type::kInputs; ++i) {
      const float* row = weights + (k + i) * kCell;
      low = low || matters(row, row + kCell / 2);
      high = high || matters(row + kCell / 2, row + kCell);
    }
    const bool belongs = outputs == Outputs::kAll   ? low && high
                         : outputs == Outputs::kLow ? low && !high
                                                    : !low && high;
    if (!belongs) continue;
    inputs_.push_back(static_cast<uint16_t>(k * kBytes / kCell));
    const int begin = outputs == Outputs::kHigh ? kCell / 2 : 0;
    const int end = outputs == Outputs::kLow ? kCell / 2 : kCell;
    for (int n = begin; n < end; ++n) weights_.push_back(Type::Pack(weights + k * kCell + n));
  }
  part.end = static_cast<int>(inputs_.size());
  if (part.end > part.begin) parts_.push_back(part);
}

template <typename Type>
template <int64_t kStep>
void Avx512Kernel<Type>::AddParts(absl::Span<const Part> parts, const char* const* taps,
                                  int64_t source, Sums& result, Prefetch& next) const {
  Sums sums = result;
  for (const Part& part : parts) {
    next.Some();
    const char* const cell = taps[part.tap] + source;
    const uint32_t* weights = weights_.data() + part.weights;
    switch (part.outputs) {
      case Outputs::kAll:
        RunPart<kStep, Outputs::kAll>(part, inputs_.data(), weights, cell, sums);
        break;
      case Outputs::kLow:
        RunPart<kStep, Outputs::kLow>(part, inputs_.data(), weights, cell, sums);
        break;
      case Outputs::kHigh:
        RunPart<kStep, Outputs::kHigh>(part, inputs_.data(), weights, cell, sums);
        break;
    }
  }
  result = sums;
}

// Adds the residual, applies the ReLU, converts and stores.
template <typename Type>
void Avx512Kernel<Type>::Finish(const Sums& sums, const PixelTile& tile, const char* residual,
                                char* target) const {
  const __m512 zero = _mm512_setzero_ps();
  for (int pixel = 0; pixel < kPixels; ++pixel) {
    const int64_t at = (tile.target + pixel) * kBytes;
    if ((tile.valid >> pixel & 1) == 0) {
      if (tile.border >> pixel & 1) Type::Store(target + at, zero, zero);
      continue;
    }
    __m512 low = sums.low[pixel];
    __m512 high = sums.high[pixel];
    if (residual != nullptr) {
      __m512 residual_low, residual_high;
      Type::Load(residual + at, residual_low, residual_high);
      low = _mm512_add_ps(low, residual_low);
      high = _mm512_add_ps(high, residual_high);
    }
    if (relu_) {
      low = _mm512_max_ps(zero, low);  // in this order NaN stays NaN
      high = _mm512_max_ps(zero, high);
    }
    Type::Store(target + at, low, high);
  }
}

template <typename Type>
void Avx512Kernel<Type>::RunPanel(const ConvBuffers& buffers, absl::Span<const PixelTile> tiles,
                                  int panel, Prefetch& next) const {
  absl::InlinedVector<const char*, 64> taps(taps_.size());
  for (size_t i = 0; i < taps.size(); ++i) {
    taps[i] = buffers.sources[taps_[i].plane + panel * plane_shift_] + taps_[i].pixel * kBytes;
  }
  const char* const residual = buffers.residuals == nullptr ? nullptr : buffers.residuals[panel];
  const auto parts = absl::MakeConstSpan(parts_).subspan(
      first_part_[panel], first_part_[panel + 1] - first_part_[panel]);
  const float* const bias = bias_.data() + panel * kCell;

  // Some tiles go through some taps' weights together, which thus come out of the first cache for
  // all but one of them.
  constexpr size_t kTiles = 2;
  constexpr size_t kParts = 4;
  Sums sums[kTiles];
  for (; !tiles.empty(); tiles.remove_prefix(std::min(kTiles, tiles.size()))) {
    const auto group = tiles.subspan(0, kTiles);
    for (size_t i = 0; i < group.size(); ++i) {
      for (int pixel = 0; pixel < kPixels; ++pixel) {
        sums[i].low[pixel] = _mm512_loadu_ps(bias);
        sums[i].high[pixel] = _mm512_loadu_ps(bias + 16);
      }
    }
    for (size_t part = 0; part < parts.size(); part += kParts) {
      const auto some = parts.subspan(part, kParts);
      for (size_t i = 0; i < group.size(); ++i) {
        const int64_t source = group[i].source * kBytes;
        step_bytes_ == kBytes ? AddParts<kBytes>(some, taps.data(), source, sums[i], next)
                              : AddParts<2 * kBytes>(some, taps.data(), source, sums[i], next);
      }
    }
    for (size_t i = 0; i < group.size(); ++i) {
      Finish(sums[i], group[i], residual, buffers.targets[panel]);
    }
  }
}

template <typename Type>
class Avx512KernelSet final : public KernelSet {
 public:
  explicit Avx512KernelSet(const char* name) : name_(name) {}

  const char* name() const override { return name_; }
  Element element() const override { return Type::kElement; }
  int tile_pixels() const override { return kPixels; }
  std::unique_ptr<const ConvKernel> MakeConv(const ConvSpec& spec) const override {
    return std::make_unique<Avx512Kernel<Type>>(spec);
  }
  std::unique_ptr<const ConvKernel> MakeWinograd(const ConvSpec& spec,
                                                 const PlaneGeometry& geometry) const override {
    return Type::kElement == Element::kFloat32 ? MakeWinogradKernel(spec, geometry) : nullptr;
  }

 private:
  const char* const name_;
};

}  // namespace

const KernelSet& Avx512Kernels() {
  static const Avx512KernelSet<Float32> kernels("avx512-fp32");
  return kernels;
}

const KernelSet& Avx512Bf16Kernels() {
  static const Avx512KernelSet<Bf16> kernels("avx512-bf16");
  return kernels;
}

const KernelSet* FindKernels(Element element) {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return nullptr;
  if (element == Element::kFloat32) return &Avx512Kernels();
  if (HasAmx()) return &AmxKernels();
  return __builtin_cpu_supports("avx512bf16") ? &Avx512Bf16Kernels() : nullptr;
}

}  // namespace dla::cpu
