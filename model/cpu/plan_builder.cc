#include "model/cpu/plan_builder.h"

#include <algorithm>
#include <utility>

#include "model/cpu/arena.h"
#include "model/cpu/conv_weights.h"

namespace dla::cpu {

int PlanBuilder::AddPhoto(int height, int width) {
  // See WindowWriter.
  Value photo = WideValue({height, (width + 1) / 2, /*top=*/3, /*bottom=*/3}, 4 * 8);
  photo.geometry.align = 1;
  return AddValue(photo);
}

int PlanBuilder::StemConv(const FoldedConv& conv, int x, bool first, int width) {
  const int output = first ? FirstConv(conv, x, width) : Conv(conv, {x}, -1, true);
  plan_.steps.back().clears_last_halves = plan_.values[output].paired && width % 2 != 0;
  return output;
}

Plan PlanBuilder::Finish(int output) {
  plan_.output = output;
  if (plan_.photo_steps == 0) plan_.photo_steps = static_cast<int>(plan_.steps.size());
  MarkBorders();
  PlaceValues(plan_);
  return std::move(plan_);
}

int PlanBuilder::AddValue(const Value& value) {
  plan_.values.push_back(value);
  return static_cast<int>(plan_.values.size()) - 1;
}

int PlanBuilder::AddStep(Step step, const Value& output) {
  step.output = AddValue(output);
  plan_.steps.push_back(std::move(step));
  return plan_.steps.back().output;
}

int PlanBuilder::FirstConv(const FoldedConv& conv, int photo, int width) {
  const PlaneGeometry from = plan_.values[photo].geometry;
  const Value output =
      WideValue({from.height, (width + 1) / 2}, conv.out_channels, /*paired=*/true);
  Step step{Step::Kind::kConv, {photo}};
  const TileGrid grid{from.height, output.geometry.width,   from.pitch(),
                      1,           output.geometry.pitch(), 1};
  FinishConv(step, conv, output.geometry, WindowConvSpec(conv, from),
             TilesInColumns(grid, kernels_.tile_pixels()));
  return AddStep(std::move(step), output);
}

// relu(conv(inputs, joined by channels) + residual)
int PlanBuilder::Conv(const FoldedConv& conv, const std::vector<int>& inputs, int residual,
                      bool relu) {
  const Value& first = plan_.values[inputs.front()];
  const bool paired = first.paired;
  Step step{Step::Kind::kConv, inputs, residual};
  Value output = WideValue(Strided(first.geometry, conv.stride), conv.out_channels);
  ConvSpec spec;
  if (paired) {
    // A stride of 2 takes every pair, and unpairs.
    output.paired = conv.stride == 1;
    output.geometry.width = first.geometry.width;
    spec = PairedConvSpec(conv, first.geometry);
  } else {
    std::vector<int> channels;
    for (int input : inputs) channels.push_back(plan_.values[input].channels);
    spec = PlainConvSpec(conv, channels, first.geometry);
  }
  // Only the stem has pairs.
  const PlaneGeometry& to = output.geometry;
  const TileGrid grid{
      to.height,  to.width, first.geometry.pitch() * conv.stride, paired ? 1 : conv.stride,
      to.pitch(), 1};
  const auto make_tiles = paired ? TilesInColumns : FewestTiles;
  std::vector<PixelTile> tiles = make_tiles(grid, kernels_.tile_pixels());
  spec.relu = relu;
  FinishConv(step, conv, output.geometry, spec, std::move(tiles));
  return AddStep(std::move(step), output);
}

void PlanBuilder::FinishConv(Step& step, const FoldedConv& conv, const PlaneGeometry& output,
                             const ConvSpec& spec, std::vector<PixelTile> tiles) {
  step.tiles = std::move(tiles);
  // The stem runs some rows at a time, which blocks of 2x2 pixels do not fit.
  const bool is_dense_3x3 = conv.kernel == 3 && conv.stride == 1 && conv.groups == 1;
  if (is_dense_3x3 && plan_.stem_steps > 0) {
    step.kernel = kernels_.MakeWinograd(spec, output);
    step.tiles_are_blocks = step.kernel != nullptr;
    if (step.tiles_are_blocks) step.tiles = BlockTiles(output, kernels_.tile_pixels());
  }
  if (step.kernel == nullptr) step.kernel = kernels_.MakeConv(spec);
  step.row_step = conv.stride;
  step.rows_below = conv.kernel / 2;
  step.reads_border = std::any_of(spec.taps.begin(), spec.taps.end(),
                                  [](const Tap& tap) { return tap.pixel != 0; });
  const int64_t cell = CellBytes(kernels_.element());
  const auto weights = static_cast<int64_t>(spec.weights.size());
  constexpr int64_t kManyWeights = 300 << 10;
  int64_t planes = 0;
  for (int input : step.inputs) planes += plan_.values[input].planes();
  ShapeWork(step, weights * cell / kCell, weights > kManyWeights,
            planes * kernels_.tile_pixels() * spec.source_step * cell);
}

void PlanBuilder::ShapeWork(Step& step, int64_t weight_bytes, bool many_weights,
                            int64_t tile_bytes) {
  // Weights that fit into the first cache leave it to the pixels; others come from the second
  // one, again for each chunk.
  constexpr int64_t kFewWeights = 32 << 10;
  // From where a photo's weights take more memory than its pixels, they should be read once for
  // all photos.
  if (plan_.photo_steps == 0 && many_weights) {
    plan_.photo_steps = static_cast<int>(plan_.steps.size());
  }
  const int64_t budget = weight_bytes <= kFewWeights ? 16 << 10 : 1024 << 10;
  step.chunk_tiles = std::max<int64_t>(2, budget / tile_bytes / 2 * 2);
}

int PlanBuilder::MaxPool(int x) {
  const Value& from = plan_.values[x];
  return AddStep({Step::Kind::kMaxPool, {x}},
                 WideValue({from.geometry.height / 2, from.geometry.width / 2}, from.channels));
}

int PlanBuilder::Add(int a, int b) {
  Step step{Step::Kind::kAdd, {a, b}};
  step.reads_border = true;
  return AddStep(std::move(step), plan_.values[a]);
}

int PlanBuilder::AveragePool(int x, int stride) {
  const Value& from = plan_.values[x];
  Step step{Step::Kind::kAveragePool, {x}};
  step.reads_border = true;
  return AddStep(std::move(step), WideValue(Strided(from.geometry, stride), from.channels));
}

// Borders are cleared only where a step reads them.
void PlanBuilder::MarkBorders() {
  std::vector<bool> read(plan_.values.size());
  for (auto step = plan_.steps.rbegin(); step != plan_.steps.rend(); ++step) {
    step->clears_border = read[step->output];
    step->clears_row_ends = step->clears_row_ends && step->clears_border;
    if (!step->reads_border) continue;
    for (int input : step->inputs) read[input] = true;
  }
}

}  // namespace dla::cpu
