#include "model/cpu/plan.h"

#include <utility>

#include "model/cpu/arena.h"
#include "model/cpu/plan_builder.h"

namespace dla::cpu {
namespace {

class Builder : public PlanBuilder {
 public:
  Builder(TensorSource source, const KernelSet& kernels) : PlanBuilder(source, kernels) {}

  Plan Build(const NetworkLayout& layout, int height, int width) {
    int x = AddPhoto(height, width);
    for (const ConvLayout& conv : layout.stem) {
      const bool first = &conv == &layout.stem.front();
      x = StemConv(FoldBatchNorm(conv, source_), x, first, width);
    }
    plan_.stem_steps = static_cast<int>(plan_.steps.size());
    for (const TreeLayout& tree : layout.trees) x = Tree(tree, x, MaxPool(x));
    return Finish(x);
  }

 private:
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
};

}  // namespace

Plan MakePlan(const NetworkLayout& layout, TensorSource source, int height, int width,
              const KernelSet& kernels) {
  return Builder(source, kernels).Build(layout, height, width);
}

}  // namespace dla::cpu
