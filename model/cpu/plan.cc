#include "model/cpu/plan.h"

#include <algorithm>
#include <utility>

#include "model/cpu/arena.h"
#include "model/cpu/conv_weights.h"

namespace dla::cpu {
namespace {

// Tiles that go through the plane as if it had no rows: the zeros between them are computed, too,
// and overwritten. For a convolution whose input and output have rows of the same length.
std::vector<PixelTile> TilesAcrossRows(const PlaneGeometry& geometry, int tile_pixels) {
  std::vector<PixelTile> tiles;
  const int count = geometry.height * geometry.pitch();
  for (int begin = 0; begin < count; begin += tile_pixels) {
    PixelTile tile{begin, begin, 0, 0};
    for (int i = 0; i < tile_pixels && begin + i < count; ++i) {
      const bool is_border = (begin + i) % geometry.pitch() == geometry.width;
      (is_border ? tile.border : tile.valid) |= 1 << i;
    }
    tiles.push_back(tile);
  }
  return tiles;
}

// The pixels from x on in row y. A row's last tile begins before the one before it ends, if need
// be, but leaves those pixels to it, for two threads may compute them.
PixelTile TileOfRow(const PlaneGeometry& from, int row_step, int column_step,
                    const PlaneGeometry& to, int tile_pixels, int x, int y) {
  const int begin = std::min(x, std::max(to.width - tile_pixels, 0));
  const unsigned all = (1U << std::min(tile_pixels, to.width)) - 1;
  const unsigned done = (1U << (x - begin)) - 1;
  return {y * row_step * from.pitch() + begin * column_step, y * to.pitch() + begin,
          static_cast<uint16_t>(all & ~done), 0};
}

// Across rows or of one row each, whichever takes fewer.
std::vector<PixelTile> MakeTiles(const PlaneGeometry& from, int stride, const PlaneGeometry& to,
                                 int tile_pixels) {
  std::vector<PixelTile> rows;
  for (int y = 0; y < to.height; ++y) {
    for (int x = 0; x < to.width; x += tile_pixels) {
      rows.push_back(TileOfRow(from, stride, stride, to, tile_pixels, x, y));
    }
  }
  if (stride != 1 || from.pitch() != to.pitch()) return rows;
  std::vector<PixelTile> across = TilesAcrossRows(to, tile_pixels);
  return across.size() < rows.size() ? across : rows;
}

// See Step::tiles. Down a column of tiles, the rows that one reads are still in the first cache
// when the next does.
std::vector<PixelTile> StemTiles(const PlaneGeometry& from, int row_step, const PlaneGeometry& to,
                                 int tile_pixels) {
  std::vector<PixelTile> columns;
  for (int x = 0; x < to.width; x += tile_pixels) {
    for (int y = 0; y < to.height; ++y) {
      columns.push_back(TileOfRow(from, row_step, 1, to, tile_pixels, x, y));
    }
  }
  return columns;
}

// Tiles of blocks of 2x2 pixels, see KernelSet::MakeWinograd.
std::vector<PixelTile> BlockTiles(const PlaneGeometry& geometry, int tile_blocks) {
  std::vector<PixelTile> tiles;
  const int count = ((geometry.height + 1) / 2) * ((geometry.width + 1) / 2);
  for (int begin = 0; begin < count; begin += tile_blocks) {
    const int blocks = std::min(tile_blocks, count - begin);
    tiles.push_back({begin, begin, static_cast<uint16_t>((1U << blocks) - 1), 0});
  }
  return tiles;
}

class Builder {
 public:
  Builder(TensorSource source, const KernelSet& kernels) : source_(source), kernels_(kernels) {
    plan_.element = kernels.element();
  }

  Plan Build(const NetworkLayout& layout, int height, int width) {
    // See WindowWriter.
    int x = AddValue({{height, (width + 1) / 2, /*top=*/3, /*bottom=*/3}, 4 * 8, false});
    for (const ConvLayout& conv : layout.stem) {
      const bool first = &conv == &layout.stem.front();
      x = first ? FirstConv(FoldBatchNorm(conv, source_), x, width)
                : Conv(FoldBatchNorm(conv, source_), {x}, -1, true);
      plan_.steps.back().clears_last_halves = plan_.values[x].paired && width % 2 != 0;
    }
    plan_.stem_steps = static_cast<int>(plan_.steps.size());
    for (const TreeLayout& tree : layout.trees) x = Tree(tree, x, MaxPool(x));
    plan_.output = x;
    if (plan_.photo_steps == 0) plan_.photo_steps = static_cast<int>(plan_.steps.size());
    MarkBorders();
    PlaceValues(plan_);
    return std::move(plan_);
  }

 private:
  int AddValue(const Value& value) {
    plan_.values.push_back(value);
    return static_cast<int>(plan_.values.size()) - 1;
  }

  int AddStep(Step step, const Value& output) {
    step.output = AddValue(output);
    plan_.steps.push_back(std::move(step));
    return plan_.steps.back().output;
  }

  static PlaneGeometry Strided(const PlaneGeometry& geometry, int stride) {
    return {(geometry.height + stride - 1) / stride, (geometry.width + stride - 1) / stride};
  }

  int FirstConv(const FoldedConv& conv, int photo, int width) {
    const PlaneGeometry from = plan_.values[photo].geometry;
    const Value output{{from.height, (width + 1) / 2}, conv.out_channels, /*paired=*/true};
    Step step{Step::Kind::kConv, {photo}};
    FinishConv(step, conv, output.geometry, WindowConvSpec(conv, from),
               StemTiles(from, 1, output.geometry, kernels_.tile_pixels()));
    return AddStep(std::move(step), output);
  }

  // relu(conv(inputs, joined by channels) + residual)
  int Conv(const FoldedConv& conv, const std::vector<int>& inputs, int residual, bool relu) {
    const Value& first = plan_.values[inputs.front()];
    const bool paired = first.paired;
    Step step{Step::Kind::kConv, inputs, residual};
    Value output{Strided(first.geometry, conv.stride), conv.out_channels};
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
    const auto make_tiles = paired ? StemTiles : MakeTiles;
    std::vector<PixelTile> tiles =
        make_tiles(first.geometry, conv.stride, output.geometry, kernels_.tile_pixels());
    spec.relu = relu;
    FinishConv(step, conv, output.geometry, spec, std::move(tiles));
    return AddStep(std::move(step), output);
  }

  void FinishConv(Step& step, const FoldedConv& conv, const PlaneGeometry& output,
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
    // Weights that fit into the first cache leave it to the pixels; others come from the second
    // one, again for each chunk.
    constexpr int64_t kFewWeights = 32 << 10;
    const int64_t cell = CellBytes(plan_.element);
    const int64_t weight_bytes = static_cast<int64_t>(spec.weights.size()) * cell / kCell;
    // From where a photo's weights take more memory than its pixels, they should be read once for
    // all photos.
    constexpr int64_t kManyWeights = 300 << 10;
    if (plan_.photo_steps == 0 && static_cast<int64_t>(spec.weights.size()) > kManyWeights) {
      plan_.photo_steps = static_cast<int>(plan_.steps.size());
    }
    const int64_t budget = weight_bytes <= kFewWeights ? 16 << 10 : 1024 << 10;
    int64_t planes = 0;
    for (int input : step.inputs) planes += plan_.values[input].planes();
    const int64_t tile_bytes = planes * kernels_.tile_pixels() * spec.source_step * cell;
    step.chunk_tiles = std::max<int64_t>(2, budget / tile_bytes / 2 * 2);
  }

  int MaxPool(int x) {
    const Value& from = plan_.values[x];
    return AddStep({Step::Kind::kMaxPool, {x}},
                   {{from.geometry.height / 2, from.geometry.width / 2}, from.channels});
  }

  // `pooled` is x max-pooled by the tree's stride.
  int Tree(const TreeLayout& tree, int x, int pooled) {
    std::vector<int> joined;
    if (tree.joins_input) joined.push_back(pooled);
    for (const TreeLayout& subtree : tree.subtrees) {
      x = Tree(subtree, x, pooled);
      joined.push_back(x);
      pooled = x;
    }
    const int residual =
        tree.project ? Conv(FoldBatchNorm(*tree.project, source_), {pooled}, -1, false) : pooled;
    const int first = Block(tree.first, x, residual);
    const int second = Block(tree.second, first, first);
    joined.insert(joined.begin(), {second, first});
    return Conv(FoldBatchNorm(tree.root, source_), joined, tree.root_shortcut ? second : -1, true);
  }

  int Block(const BlockLayout& block, int x, int residual) {
    if (block.kind == Block::kBottle2neck) return Bottle2neck(block, x, residual);
    for (size_t i = 0; i + 1 < block.convs.size(); ++i) {
      x = Conv(FoldBatchNorm(block.convs[i], source_), {x}, -1, true);
    }
    return Conv(FoldBatchNorm(block.convs.back(), source_), {x}, residual, true);
  }

  // The channels in equal parts: each but the last goes through a convolution, whose output the
  // next part is added to; the last joins them as it is. A block with a stride adds nothing up.
  int Bottle2neck(const BlockLayout& block, int x, int residual) {
    const int count = static_cast<int>(block.convs.size()) - 1;
    const FoldedConv expand = FoldBatchNorm(block.convs.front(), source_);
    const int width = expand.out_channels / count;
    std::vector<int> parts;
    for (int i = 0; i < count; ++i) {
      parts.push_back(Conv(expand.Outputs(i * width, (i + 1) * width), {x}, -1, true));
    }
    for (int i = 0; i + 1 < count; ++i) {
      const int input = i > 0 && block.stride() == 1 ? Add(parts[i - 1], parts[i]) : parts[i];
      parts[i] = Conv(FoldBatchNorm(block.convs[i + 1], source_), {input}, -1, true);
    }
    if (block.stride() > 1) parts.back() = AveragePool(parts.back(), block.stride());
    return Conv(FoldBatchNorm(block.convs.back(), source_), parts, residual, true);
  }

  int Add(int a, int b) {
    Step step{Step::Kind::kAdd, {a, b}};
    step.reads_border = true;
    return AddStep(std::move(step), plan_.values[a]);
  }

  int AveragePool(int x, int stride) {
    const Value& from = plan_.values[x];
    Step step{Step::Kind::kAveragePool, {x}};
    step.reads_border = true;
    return AddStep(std::move(step), {Strided(from.geometry, stride), from.channels});
  }

  // Borders are cleared only where a step reads them.
  void MarkBorders() {
    std::vector<bool> read(plan_.values.size());
    for (auto step = plan_.steps.rbegin(); step != plan_.steps.rend(); ++step) {
      step->clears_border = read[step->output];
      if (!step->reads_border) continue;
      for (int input : step->inputs) read[input] = true;
    }
  }

  const TensorSource source_;
  const KernelSet& kernels_;
  Plan plan_;
};

}  // namespace

Plan MakePlan(const NetworkLayout& layout, TensorSource source, int height, int width,
              const KernelSet& kernels) {
  return Builder(source, kernels).Build(layout, height, width);
}

}  // namespace dla::cpu
