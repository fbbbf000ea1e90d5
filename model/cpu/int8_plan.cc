#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/cpu/int8_weights.h"
#include "model/cpu/photo_bytes.h"
#include "model/cpu/plan.h"
#include "model/cpu/plan_builder.h"
#include "model/graph.h"
#include "model/int8_conv.h"

namespace dla::cpu {
namespace {

// Some channels of the graph's values: its number and the first channel.
using Part = std::pair<int, int>;

class Int8Builder : public PlanBuilder {
 public:
  Int8Builder(const NetworkLayout& layout, TensorSource source, const Quantization& quantization,
              const InputSpec& input, const Int8Kernels& kernels)
      : PlanBuilder(source, kernels.wide()),
        input_(input),
        int8_kernels_(kernels),
        quantization_(quantization),
        graph_(MakeGraph(layout)),
        stem_(layout.stem.size()) {
    for (const GraphOp& op : graph_.ops) {
      for (const GraphInput& from : op.inputs) {
        readers_[{from.value, from.first_channel}].push_back(&op);
        channels_[{from.value, from.first_channel}] = from.channels;
      }
    }
    for (size_t i = stem_; i < graph_.ops.size(); ++i) {
      const GraphOp& op = graph_.ops[i];
      if (op.kind != GraphOp::Kind::kConv) continue;
      const int narrowest = std::min(op.inputs.front().channels, op.conv.out_channels);
      const bool reads_stem = op.inputs.front().channels == graph_.ops[stem_ - 1].conv.out_channels;
      const int narrow = reads_stem ? op.conv.out_channels : narrowest;
      if (op.conv.groups > 1 || narrow <= 32) align_ = 2;
    }
  }

  Plan Build() {
    StemIsInt8() ? Int8Stem() : WideStem();
    for (size_t i = stem_; i < graph_.ops.size(); ++i) {
      const GraphOp& op = graph_.ops[i];
      switch (op.kind) {
        case GraphOp::Kind::kConv:
          IsInt8(op) ? AddInt8Conv(op) : AddWideConv(op);
          break;
        case GraphOp::Kind::kMaxPool:
        case GraphOp::Kind::kAveragePool:
          AddPool(op);
          break;
        case GraphOp::Kind::kAdd:
          AddSum(op);
          break;
      }
    }
    return Finish(Wide({graph_.output, 0}));
  }

 private:
  const std::string& NameOf(int value) const { return graph_.values[value].name; }
  // Of values that are in int8: all that are rounded but the last, which no convolution reads.
  bool HasStep(int value) const {
    return value != graph_.output && quantization_.steps.contains(NameOf(value));
  }
  float StepOf(int value) const { return quantization_.steps.at(NameOf(value)); }
  bool IsInt8(const GraphOp& op) const { return quantization_.convs.contains(op.conv.conv); }

  Value Int8Value(Part part, const PlaneGeometry& size) const {
    const int channels = ChannelsOf(part);
    int cell = channels <= 16 ? 16 : channels <= 32 ? 32 : 64;
    bool is_3x3 = false;
    if (const auto readers = readers_.find(part); readers != readers_.end()) {
      for (const GraphOp* op : readers->second) {
        if (op->kind != GraphOp::Kind::kConv) continue;
        is_3x3 = is_3x3 || op->conv.kernel > 1;
        // A group, or some, to themselves.
        const int width = op->conv.in_channels / op->conv.groups;
        if (op->conv.groups > 1 && 16 % width == 0) cell = 16;
        if (op->conv.groups > 1 && width == 32) cell = 32;
      }
    }
    Value value{size, channels, false, Element::kInt8, cell};
    value.geometry.align = cell < 64 ? 2 : align_;
    // Windows of two pixels that begin with a cache line.
    value.geometry.left = cell == 32 && !is_3x3 ? 2 : 1;
    return value;
  }
  int ChannelsOf(Part part) const {
    const auto read = channels_.find(part);
    return read != channels_.end() ? read->second : graph_.values[part.first].channels;
  }
  // The parts in which a value is read.
  std::vector<Part> PartsOf(int value) const {
    std::vector<Part> parts;
    for (auto it = channels_.lower_bound({value, 0}); it != channels_.end(); ++it) {
      if (it->first.first != value) break;
      parts.push_back(it->first);
    }
    if (parts.empty()) parts.emplace_back(value, 0);
    return parts;
  }

  // A part's value in the plan, which a conversion adds if need be.
  int Int8(Part part) {
    const auto found = int8_.find(part);
    return found != int8_.end() ? found->second : int8_[part] = Narrow(part);
  }
  int Wide(Part part) {
    const auto found = wide_.find(part);
    return found != wide_.end() ? found->second : wide_[part] = Widen(part);
  }

  bool StemIsInt8() const {
    for (size_t i = 0; i < stem_; ++i) {
      if (i > 0 && !IsInt8(graph_.ops[i])) return false;
      if (!HasStep(graph_.ops[i].output)) return false;
    }
    return true;
  }

  // What the first convolution puts out becomes bytes at once.
  void Int8Stem() {
    const GraphOp& first = graph_.ops.front();
    const Part part{first.output, 0};
    const Value to = Int8Value(part, {input_.height, input_.width});
    const int pairs = StemConv(RealWeights(first), AddPhoto(input_.height, input_.width),
                               /*first=*/true, input_.width);
    const Value from = plan_.values[pairs];
    Step step{Step::Kind::kConv, {pairs}};
    step.kernel = MakeNarrowKernel({from.element,
                                    {{Int8Half{0, 0}, Int8Half{0, to.cell_channels}}},
                                    to.cell_channels,
                                    2 * to.cell_channels,
                                    1 / StepOf(part.first),
                                    0});
    step.tiles = StemTiles(from.geometry.pitch(), 1, to);
    step.clears_row_ends = input_.width % 2 != 0;
    int8_[part] = AddStep(std::move(step), to);
    if (IsInt8(first) && PhotoBytes::Fit(input_)) ReadBytes(first, int8_[part]);
    for (size_t i = 1; i < stem_; ++i) AddInt8Conv(graph_.ops[i]);
    plan_.stem_steps = static_cast<int>(plan_.steps.size());
  }

  // Has the first convolution be in whole numbers, to what the steps so far put out, where a photo
  // comes as bytes.
  void ReadBytes(const GraphOp& first, int output) {
    const PlaneGeometry from = PhotoBytes::Geometry(input_);
    const Value to = plan_.values[output];
    Step step{Step::Kind::kConv, {AddValue({from, 3, false, Element::kInt8, kPhotoCell})}};
    step.output = output;
    step.kernel = int8_kernels_.MakeConv(MakeFirstInt8ConvSpec(
        first.conv, quantization_.convs.at(first.conv.conv), input_, StepOf(first.output)));
    step.tiles = StemTiles(from.pitch(), 2, to);
    step.rows_below = first.conv.kernel / 2;
    step.clears_row_ends = input_.width % 2 != 0;
    plan_.bytes_steps = static_cast<int>(plan_.steps.size());
    plan_.from_bytes = std::move(step);
  }

  // Of pairs of the output's pixels.
  std::vector<PixelTile> StemTiles(int source_pitch, int source_step, const Value& to) const {
    return TilesInColumns(
        {input_.height, (input_.width + 1) / 2, source_pitch, source_step, to.geometry.pitch(), 2},
        kernels_.tile_pixels());
  }

  void WideStem() {
    int x = AddPhoto(input_.height, input_.width);
    for (size_t i = 0; i < stem_; ++i) {
      const GraphOp& op = graph_.ops[i];
      x = StemConv(RealWeights(op), x, i == 0, input_.width);
      wide_[{op.output, 0}] = x;
    }
    plan_.stem_steps = static_cast<int>(plan_.steps.size());
  }

  // For wider kernels.
  FoldedConv RealWeights(const GraphOp& op) const {
    if (!IsInt8(op)) return FoldBatchNorm(op.conv, source_);
    return Dequantize(op.conv, quantization_.convs.at(op.conv.conv),
                      InputSteps(graph_, op, quantization_.steps, input_));
  }

  void AddInt8Conv(const GraphOp& op) {
    std::vector<int> inputs;
    Int8Inputs in;
    for (const GraphInput& input : op.inputs) {
      inputs.push_back(Int8({input.value, input.first_channel}));
      in.channels.push_back(input.channels);
    }
    const Value& first = plan_.values[inputs.front()];
    in.cell = first.cell_channels;
    in.pitch = first.geometry.pitch();
    const PlaneGeometry from = first.geometry;
    const bool is_stem = plan_.stem_steps == 0;
    for (const Part& part : PartsOf(op.output)) {
      Step step{Step::Kind::kConv, inputs};
      Int8Residual residual;
      if (op.residual >= 0) {
        step.residual = Int8({op.residual, 0});
        residual = {true, plan_.values[step.residual].cell_channels, StepOf(op.residual),
                    graph_.values[op.residual].is_signed};
      }
      const PlaneGeometry size = Strided(from, op.conv.stride);
      const bool in_bytes = HasStep(op.output);
      // No float32 in the last value: it is small, and what is pooled should not be rounded.
      Value to = in_bytes ? Int8Value(part, size) : WideValue(size, ChannelsOf(part));
      if (op.output == graph_.output) to.element = Element::kFloat32;
      const Int8ConvSpec spec = MakeInt8ConvSpec(
          op.conv, quantization_.convs.at(op.conv.conv), in,
          {part.second, to.channels, to.element, to.cell_channels, in_bytes ? StepOf(op.output) : 1,
           graph_.values[op.output].is_signed, op.relu},
          residual);
      const int unit = UnitPixels(in.cell, op.conv.stride);
      const TileGrid grid{to.geometry.height,
                          (to.geometry.width + unit - 1) / unit,
                          from.pitch() * op.conv.stride,
                          unit * op.conv.stride,
                          to.geometry.pitch(),
                          unit};
      const int tile_units = kernels_.tile_pixels();
      step.tiles = is_stem ? TilesInColumns(grid, tile_units) : FewestTiles(grid, tile_units);
      step.clears_row_ends = to.geometry.width % unit != 0;
      for (PixelTile& tile : step.tiles) {
        // What lies between rows is written, too: that is faster than leaving it out.
        step.clears_row_ends = step.clears_row_ends || tile.border != 0;
        tile.valid |= tile.border;
        tile.border = 0;
      }
      step.row_step = op.conv.stride;
      step.rows_below = op.conv.kernel / 2;
      step.reads_border = op.conv.kernel > 1;
      step.kernel = int8_kernels_.MakeConv(spec);
      int64_t weight_bytes = 0;
      for (const Int8Panel& panel : spec.panels) {
        weight_bytes += static_cast<int64_t>(panel.weights.size());
      }
      int64_t planes = 0;
      for (int input : inputs) planes += plan_.values[input].planes();
      constexpr int64_t kManyWeights = 300 << 10;
      ShapeWork(step, weight_bytes, weight_bytes > kManyWeights,
                planes * tile_units * spec.source_bytes);
      (in_bytes ? int8_ : wide_)[part] = AddStep(std::move(step), to);
    }
  }

  void AddWideConv(const GraphOp& op) {
    std::vector<int> inputs;
    for (const GraphInput& input : op.inputs) {
      inputs.push_back(Wide({input.value, input.first_channel}));
    }
    const int residual = op.residual >= 0 ? Wide({op.residual, 0}) : -1;
    const FoldedConv conv = FoldBatchNorm(op.conv, source_);
    for (const Part& part : PartsOf(op.output)) {
      const int channels = ChannelsOf(part);
      const bool whole = channels == conv.out_channels;
      wide_[part] = Conv(whole ? conv : conv.Outputs(part.second, part.second + channels), inputs,
                         residual, op.relu);
    }
  }

  void AddPool(const GraphOp& op) {
    const Part from{op.inputs.front().value, op.inputs.front().first_channel};
    const Part to{op.output, 0};
    const bool is_max = op.kind == GraphOp::Kind::kMaxPool;
    if (!HasStep(op.output)) {
      wide_[to] = is_max ? MaxPool(Wide(from)) : AveragePool(Wide(from), 2);
      return;
    }
    Step step{is_max ? Step::Kind::kMaxPool : Step::Kind::kAveragePool, {Int8(from)}};
    step.reads_border = !is_max;
    const Value& input = plan_.values[step.inputs.front()];
    PlaneGeometry size{input.geometry.height / 2, input.geometry.width / 2};
    if (!is_max) size = Strided(input.geometry, 2);
    Value output = Int8Value(to, size);
    output.cell_channels = input.cell_channels;
    int8_[to] = AddStep(std::move(step), output);
  }

  void AddSum(const GraphOp& op) {
    const GraphInput& a = op.inputs[0];
    const GraphInput& b = op.inputs[1];
    const Part to{op.output, 0};
    if (!HasStep(op.output) || !HasStep(a.value) || !HasStep(b.value)) {
      wide_[to] = Add(Wide({a.value, a.first_channel}), Wide({b.value, b.first_channel}));
      return;
    }
    Step step{Step::Kind::kAdd,
              {Int8({a.value, a.first_channel}), Int8({b.value, b.first_channel})}};
    step.factors = {StepOf(a.value) / StepOf(op.output), StepOf(b.value) / StepOf(op.output)};
    const PlaneGeometry& from = plan_.values[step.inputs.front()].geometry;
    int8_[to] = AddStep(std::move(step), Int8Value(to, {from.height, from.width}));
  }

  int Narrow(Part part) {
    const int wide = wide_.at(part);
    const Value from = plan_.values[wide];
    const Value to = Int8Value(part, {from.geometry.height, from.geometry.width});
    NarrowSpec spec{from.element,           {}, to.cell_channels, to.cell_channels,
                    1 / StepOf(part.first), 0};
    if (graph_.values[part.first].is_signed) spec.offset = kSignedOffset;
    for (int p = 0; p < from.planes(); ++p) {
      spec.halves.push_back(HalvesOf(p * kCell, to.cell_channels));
    }
    return AddConversion(wide, MakeNarrowKernel(spec), to);
  }

  int Widen(Part part) {
    const int narrow = int8_.at(part);
    const Value from = plan_.values[narrow];
    const Value to = WideValue({from.geometry.height, from.geometry.width}, from.channels);
    WidenSpec spec{to.element, {}, from.cell_channels, StepOf(part.first), 0};
    if (graph_.values[part.first].is_signed) spec.offset = kSignedOffset;
    for (int p = 0; p < to.planes(); ++p) {
      spec.halves.push_back(HalvesOf(p * kCell, from.cell_channels));
    }
    return AddConversion(narrow, MakeWidenKernel(spec), to);
  }

  int AddConversion(int input, std::unique_ptr<const ConvKernel> kernel, const Value& to) {
    const PlaneGeometry& from = plan_.values[input].geometry;
    Step step{Step::Kind::kConv, {input}};
    step.kernel = std::move(kernel);
    step.tiles = TilesOfRows({from.height, from.width, from.pitch(), 1, to.geometry.pitch(), 1},
                             kernels_.tile_pixels());
    step.chunk_tiles = static_cast<int64_t>(step.tiles.size());
    return AddStep(std::move(step), to);
  }

  const InputSpec input_;
  const Int8Kernels& int8_kernels_;
  const Quantization& quantization_;
  const Graph graph_;
  const size_t stem_;  // convolutions
  std::map<Part, std::vector<const GraphOp*>> readers_;
  std::map<Part, int> channels_;
  std::map<Part, int> int8_;
  std::map<Part, int> wide_;
};

}  // namespace

Plan MakeInt8Plan(const NetworkLayout& layout, TensorSource source,
                  const Quantization& quantization, const InputSpec& input,
                  const Int8Kernels& kernels) {
  return Int8Builder(layout, source, quantization, input, kernels).Build();
}

}  // namespace dla::cpu
