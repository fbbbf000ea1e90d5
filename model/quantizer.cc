#include "model/quantizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/checkpoint.h"
#include "model/graph_network.h"
#include "model/int8_conv.h"
#include "model/libtorch_errors.h"
#include "model/parallel_for.h"
#include "model/quantized_source.h"
#include "model/range_histogram.h"

namespace dla {
namespace {

// So many photos go through the network together: four of 224 x 224 pixels, fewer of larger ones,
// whose activations take memory in proportion.
int64_t ChunkOf(const InputSpec& input) {
  constexpr int64_t kPixels = 4 * 256 * 256;
  return std::clamp<int64_t>(kPixels / (int64_t{input.height} * input.width), 1, 4);
}

class Quantizer {
 public:
  Quantizer(const ModelFiles& files, TensorSource source, absl::Span<const PhotoInput> photos,
            const QuantizerOptions& options)
      : files_(files),
        source_(source),
        photos_(photos),
        options_(options),
        chunk_(ChunkOf(files.config.input)),
        network_(files.layout, source, files.config.input, nullptr),
        graph_(network_.graph()) {}

  absl::StatusOr<QuantizedModel> Run() {
    quantization_ = RoundNetwork(files_.layout, source_, files_.config.input, ChooseSteps());
    QuantizedModel result;
    result.layers = Scan();
    for (const LayerCost& layer : result.layers) {
      if (!layer.is_int8) quantization_.convs.erase(layer.conv);
    }
    if (quantization_.convs.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "each convolution alone, in int8, moves the embedding by more than ", options_.most_error,
          " of its length; are the photos such as the model was trained on?"));
    }
    const std::set<std::string> read = ValuesRead(
        graph_, [&](const std::string& conv) { return quantization_.convs.contains(conv); });
    std::erase_if(quantization_.steps,
                  [&](const auto& step) { return !read.contains(step.first); });
    result.quantization = std::move(quantization_);
    return result;
  }

 private:
  // The photos of chunk `i` of the first `count`.
  absl::Span<const PhotoInput> Chunk(int64_t i, size_t count) const {
    return photos_.subspan(0, count).subspan(i * chunk_, chunk_);
  }
  int64_t Chunks(size_t photos) const {
    return (static_cast<int64_t>(photos) + chunk_ - 1) / chunk_;
  }

  // Computes the operations from `begin` on in float32; `note` sees each result.
  template <typename Note>
  void RunFrom(size_t begin, GraphTensors& values, Note note) const {
    for (size_t i = begin; i < graph_.ops.size(); ++i) {
      const GraphOp& op = graph_.ops[i];
      values[op.output] = RunOp(op, values, &network_.conv(i));
      note(op, values[op.output]);
      for (int dead : op.dead_after) values[dead].reset();
    }
  }

  std::map<std::string, float> ChooseSteps() {
    const std::set<std::string> names = ValuesRead(graph_, [](const std::string&) { return true; });
    std::map<std::string, RangeHistogram> histograms;  // guarded by mutex, like the next
    int64_t done = 0;
    std::mutex mutex;
    Progress("calibrate", 0, static_cast<int64_t>(photos_.size()));
    ParallelFor(Chunks(photos_.size()), options_.threads, [&](int64_t chunk) {
      const auto photos = Chunk(chunk, photos_.size());
      std::map<std::string, RangeHistogram> own;
      GraphTensors values(graph_.values.size());
      values[0] = network_.MakeInput(photos);
      RunFrom(0, values, [&](const GraphOp& op, const at::Tensor& y) {
        const std::string& name = graph_.values[op.output].name;
        // Pooling keeps the step, and changes no range.
        const bool is_pool =
            op.kind == GraphOp::Kind::kMaxPool || op.kind == GraphOp::Kind::kAveragePool;
        if (is_pool || !names.contains(name)) return;
        // In the order of memory, in which a channels-last tensor has no holes.
        own[name].Add({y.const_data_ptr<float>(), static_cast<size_t>(y.numel())});
      });
      const std::lock_guard lock(mutex);
      for (const auto& [name, histogram] : own) histograms[name].Merge(histogram);
      done += static_cast<int64_t>(photos.size());
      Progress("calibrate", done, static_cast<int64_t>(photos_.size()));
    });
    std::map<std::string, float> steps;
    for (const GraphValue& value : graph_.values) {
      if (!names.contains(value.name) || steps.contains(value.name)) continue;
      const int levels = value.is_signed ? 127 : 255;
      const float step = histograms.at(value.name).BestClip(levels) / static_cast<float>(levels);
      // Of a value that is always 0, any.
      steps[value.name] = step >= kLeastScale ? step : 1;
    }
    return steps;
  }

  at::Tensor Rounded(const at::Tensor& x, const GraphValue& value) const {
    at::Tensor y = x.clone();
    RoundTo(y, quantization_.steps.at(value.name), value.is_signed);
    return y;
  }

  // `values` after operation `i`, a convolution, as if it alone were int8.
  GraphTensors RunRounded(size_t i, const GraphTensors& values, const ConvTensors& conv) const {
    const GraphOp& op = graph_.ops[i];
    GraphTensors rounded = values;
    for (const GraphInput& input : op.inputs) {
      if (input.value == 0) continue;  // the photo's bytes are whole numbers
      rounded[input.value] = Rounded(values[input.value], graph_.values[input.value]);
    }
    if (op.residual >= 0) {
      rounded[op.residual] = Rounded(values[op.residual], graph_.values[op.residual]);
    }
    GraphTensors result = values;
    result[op.output] = RunOp(op, rounded, &conv);
    for (int dead : op.dead_after) result[dead].reset();
    return result;
  }

  at::Tensor Features(const GraphTensors& values) const {
    return PoolFeatures(values[graph_.output]);
  }

  std::vector<LayerCost> Scan() {
    std::vector<LayerCost> layers;
    std::map<size_t, ConvTensors> convs;  // by operation
    std::vector<size_t> ops;
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      const GraphOp& op = graph_.ops[i];
      const auto found = quantization_.convs.find(op.conv.conv);
      if (op.kind != GraphOp::Kind::kConv || found == quantization_.convs.end()) continue;
      layers.push_back({op.conv.conv});
      ops.push_back(i);
      convs[i] = MakeConvTensors(
          Dequantize(op.conv, found->second,
                     InputSteps(graph_, op, quantization_.steps, files_.config.input)));
    }
    const size_t photos = std::min<size_t>(photos_.size(), options_.scan_photos);
    const int64_t chunks = Chunks(photos);
    std::mutex mutex;
    int64_t done = 0;  // guarded by mutex, like the layers' errors
    Progress("scan", 0, chunks * static_cast<int64_t>(layers.size()));
    ParallelFor(chunks, options_.threads, [&](int64_t chunk) {
      GraphTensors values(graph_.values.size());
      values[0] = network_.MakeInput(Chunk(chunk, photos));
      GraphTensors all = values;
      RunFrom(0, all, [](const GraphOp&, const at::Tensor&) {});
      const at::Tensor exact = Features(all);
      const at::Tensor length = at::linalg_vector_norm(exact, 2, at::IntArrayRef{1}) + 1e-20F;
      for (size_t layer = 0, i = 0; layer < layers.size(); ++i) {
        const GraphOp& op = graph_.ops[i];
        if (i == ops[layer]) {
          GraphTensors rest = RunRounded(i, values, convs.at(i));
          RunFrom(i + 1, rest, [](const GraphOp&, const at::Tensor&) {});
          const at::Tensor errors =
              at::linalg_vector_norm(Features(rest) - exact, 2, at::IntArrayRef{1}) / length;
          const float* error = errors.const_data_ptr<float>();
          const std::lock_guard lock(mutex);
          for (int64_t photo = 0; photo < errors.numel(); ++photo) {
            layers[layer].error += error[photo] / static_cast<double>(photos);
            layers[layer].worst = std::max<double>(layers[layer].worst, error[photo]);
          }
          ++layer;
          Progress("scan", ++done, chunks * static_cast<int64_t>(layers.size()));
        }
        values[op.output] = RunOp(op, values, &network_.conv(i));
        for (int dead : op.dead_after) values[dead].reset();
      }
    });
    ChooseInt8(layers);
    return layers;
  }

  void ChooseInt8(std::vector<LayerCost>& layers) const {
    const double most_together = 3 * options_.most_error;
    std::vector<LayerCost*> by_error;
    for (LayerCost& layer : layers) {
      if (!std::isfinite(layer.error)) layer.error = layer.worst = 1e30;
      by_error.push_back(&layer);
    }
    std::sort(by_error.begin(), by_error.end(),
              [](const LayerCost* a, const LayerCost* b) { return a->error < b->error; });
    double squares = 0;
    for (LayerCost* layer : by_error) {
      squares += layer->error * layer->error;
      layer->is_int8 =
          layer->error <= options_.most_error && squares <= most_together * most_together;
    }
  }

  void Progress(const char* stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }

  const ModelFiles& files_;
  const TensorSource source_;
  const absl::Span<const PhotoInput> photos_;
  const QuantizerOptions& options_;
  const int64_t chunk_;
  const GraphNetwork network_;
  const Graph& graph_;
  Quantization quantization_;
};

}  // namespace

absl::StatusOr<QuantizedModel> QuantizeModel(const ModelFiles& files,
                                             absl::Span<const PhotoInput> photos,
                                             const QuantizerOptions& options) {
  if (files.quantization) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.checkpoint_name, " is int8 already; quantise the float model"));
  }
  if (photos.empty()) return absl::InvalidArgumentError("no photos to calibrate on");
  try {
    const c10::InferenceMode no_gradients;
    auto source = [&](const std::string& name) { return ToFloats(*files.checkpoint.Find(name)); };
    return Quantizer(files, source, photos, options).Run();
  } catch (const std::exception&) {
    return StatusOfException(absl::StrCat("quantising ", files.layout.architecture));
  }
}

}  // namespace dla
