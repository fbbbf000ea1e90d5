#include "model/quantizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mean.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "model/graph_network.h"
#include "model/int8_conv.h"
#include "model/parallel_for.h"
#include "model/range_histogram.h"

namespace dla {
namespace {

constexpr int64_t kChunk = 4;  // photos

absl::Span<const float> Values(const at::Tensor& x) {
  // In memory order: channels-last tensors have no holes.
  return {x.const_data_ptr<float>(), static_cast<size_t>(x.numel())};
}

class Quantizer {
 public:
  Quantizer(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
            absl::Span<const PhotoInput> photos, const QuantizerOptions& options)
      : network_(layout, source, input, nullptr),
        graph_(network_.graph()),
        source_(source),
        photos_(photos),
        options_(options) {}

  Quantization Run() {
    ChooseSteps();
    QuantizeConvs();
    return std::move(result_);
  }

 private:
  absl::Span<const PhotoInput> Chunk(int64_t i) const { return photos_.subspan(i * kChunk, kChunk); }
  static int64_t Chunks(size_t photos) { return (static_cast<int64_t>(photos) + kChunk - 1) / kChunk; }

  void ChooseSteps() {
    const std::string first = graph_.ops.front().conv.conv;
    const std::set<std::string> names =
        ValuesRead(graph_, [&](const std::string& conv) { return conv != first; });
    std::map<std::string, RangeHistogram> histograms;
    std::mutex mutex;
    ParallelFor(Chunks(photos_.size()), options_.threads, [&](int64_t chunk) {
      std::map<std::string, RangeHistogram> own;
      GraphTensors values(graph_.values.size());
      values[0] = network_.MakeInput(Chunk(chunk));
      for (size_t i = 0; i < graph_.ops.size(); ++i) {
        const GraphOp& op = graph_.ops[i];
        values[op.output] = RunOp(op, values, &network_.conv(i));
        const std::string& name = graph_.values[op.output].name;
        const bool fresh = op.kind == GraphOp::Kind::kConv || op.kind == GraphOp::Kind::kAdd;
        if (fresh && names.contains(name)) own[name].Add(Values(values[op.output]));
        for (int dead : op.dead_after) values[dead].reset();
      }
      const std::lock_guard lock(mutex);
      for (const auto& [name, histogram] : own) histograms[name].Merge(histogram);
    });
    for (const GraphValue& value : graph_.values) {
      if (!names.contains(value.name)) continue;
      const int levels = value.is_signed ? 127 : 255;
      const RangeHistogram& h = histograms.at(value.name);
      float clip = h.max();
      if (options_.clip == ClipMethod::kPercentile) clip = h.Percentile(options_.percentile);
      if (options_.clip == ClipMethod::kLeastError) clip = h.LeastErrorClip(levels);
      if (options_.clip == ClipMethod::kDivergence) clip = h.LeastDivergenceClip(levels);
      result_.steps[value.name] = clip > 0 ? clip / static_cast<float>(levels) : 1;
    }
  }

  void QuantizeConvs() {
    const int64_t chunks =
        Chunks(std::min<size_t>(photos_.size(), options_.refine_photos));
    std::vector<GraphTensors> exact(chunks), rounded(chunks);
    std::vector<ConvTensors> convs(graph_.ops.size());
    const bool refine = options_.correct_bias || options_.learn_rounding;
    if (refine) ParallelFor(chunks, options_.threads, [&](int64_t chunk) {
      exact[chunk].resize(graph_.values.size());
      exact[chunk][0] = network_.MakeInput(Chunk(chunk));
      rounded[chunk] = exact[chunk];
    });
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const GraphOp& op = graph_.ops[i];
      convs[i] = network_.conv(i);
      const bool is_int8 = op.kind == GraphOp::Kind::kConv && i > 0;
      std::vector<float> steps;
      Int8Conv int8;
      if (is_int8) {
        steps = InputSteps(graph_, op, result_.steps);
        int8 = RoundWeights(FoldBatchNorm(op.conv, source_), steps);
        convs[i] = MakeConvTensors(Dequantize(op.conv, int8, steps));
      }
      std::mutex mutex;
      at::Tensor off;
      if (refine) ParallelFor(chunks, options_.threads, [&](int64_t chunk) {
        auto step = [&](GraphTensors& values, const ConvTensors& conv) {
          values[op.output] = RunOp(op, values, &conv);
        };
        if (is_int8 && options_.correct_bias) {
          const at::Tensor difference =
              Convolve(op, JoinInputs(op, exact[chunk]), network_.conv(i)).mean(at::IntArrayRef{0, 2, 3}) -
              Convolve(op, JoinInputs(op, rounded[chunk]), convs[i]).mean(at::IntArrayRef{0, 2, 3});
          const std::lock_guard lock(mutex);
          off = off.defined() ? off + difference : difference;
        }
        step(exact[chunk], network_.conv(i));
      });
      if (is_int8) {
        if (off.defined()) {
          convs[i].bias = convs[i].bias + off / chunks;
          const float* bias = convs[i].bias.const_data_ptr<float>();
          int8.bias.assign(bias, bias + convs[i].bias.numel());
        }
        result_.convs[op.conv.conv] = std::move(int8);
      }
      if (refine) ParallelFor(chunks, options_.threads, [&](int64_t chunk) {
        GraphTensors& values = rounded[chunk];
        values[op.output] = RunOp(op, values, &convs[i]);
        const GraphValue& value = graph_.values[op.output];
        const auto step = result_.steps.find(value.name);
        if (step != result_.steps.end() && op.kind != GraphOp::Kind::kMaxPool) {
          RoundTo(values[op.output], step->second, value.is_signed);
        }
        for (int dead : op.dead_after) { values[dead].reset(); exact[chunk][dead].reset(); }
      });
    }
  }

  const GraphNetwork network_;
  const Graph& graph_;
  const TensorSource source_;
  const absl::Span<const PhotoInput> photos_;
  const QuantizerOptions options_;
  Quantization result_;
};

}  // namespace

Quantization Quantize(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                      absl::Span<const PhotoInput> photos, const QuantizerOptions& options) {
  const c10::InferenceMode no_gradients;
  return Quantizer(layout, source, input, photos, options).Run();
}

}  // namespace dla
