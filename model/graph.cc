#include "model/graph.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace dla {
namespace {

class Builder {
 public:
  Graph Build(const NetworkLayout& layout) {
    int x = AddValue({"", layout.stem.front().in_channels});
    for (const ConvLayout& conv : layout.stem) x = Conv(conv, {All(x)});
    for (const TreeLayout& tree : layout.trees) x = Tree(tree, x, MaxPool(x));
    graph_.output = x;
    MarkDeaths();
    return std::move(graph_);
  }

 private:
  int AddValue(GraphValue value) {
    graph_.values.push_back(std::move(value));
    return static_cast<int>(graph_.values.size()) - 1;
  }

  int AddOp(GraphOp op, GraphValue output) {
    op.output = AddValue(std::move(output));
    graph_.ops.push_back(std::move(op));
    return graph_.ops.back().output;
  }

  GraphInput All(int value) const { return {value, 0, graph_.values[value].channels}; }

  int Conv(const ConvLayout& conv, std::vector<GraphInput> inputs, int residual = -1,
           bool relu = true) {
    return AddOp({GraphOp::Kind::kConv, std::move(inputs), 0, conv, residual, relu, {}},
                 {conv.conv, conv.out_channels, !relu});
  }

  // Of one input; its name stays.
  int Pool(GraphOp::Kind kind, GraphInput x) {
    GraphValue output = graph_.values[x.value];
    output.channels = x.channels;
    return AddOp({kind, {x}, 0, {}, -1, false, {}}, std::move(output));
  }

  int MaxPool(int x) { return Pool(GraphOp::Kind::kMaxPool, All(x)); }

  // `pooled` is x max-pooled by the tree's stride.
  int Tree(const TreeLayout& tree, int x, int pooled) {
    std::vector<GraphInput> joined(2);
    if (tree.joins_input) joined.push_back(All(pooled));
    for (const TreeLayout& subtree : tree.subtrees) {
      x = Tree(subtree, x, pooled);
      joined.push_back(All(x));
      pooled = x;
    }
    const int residual =
        tree.project ? Conv(*tree.project, {All(pooled)}, -1, /*relu=*/false) : pooled;
    const int first = Block(tree.first, x, residual);
    const int second = Block(tree.second, first, first);
    joined[0] = All(second);
    joined[1] = All(first);
    return Conv(tree.root, std::move(joined), tree.root_shortcut ? second : -1);
  }

  int Block(const BlockLayout& block, int x, int residual) {
    if (block.kind == Block::kBottle2neck) return Bottle2neck(block, x, residual);
    for (size_t i = 0; i + 1 < block.convs.size(); ++i) x = Conv(block.convs[i], {All(x)});
    return Conv(block.convs.back(), {All(x)}, residual);
  }

  int Bottle2neck(const BlockLayout& block, int x, int residual) {
    const int expanded = Conv(block.convs.front(), {All(x)});
    const int count = static_cast<int>(block.convs.size()) - 1;
    const int width = block.convs.front().out_channels / count;
    std::vector<GraphInput> parts;
    for (int i = 0; i < count; ++i) parts.push_back({expanded, i * width, width});
    for (int i = 0; i + 1 < count; ++i) {
      const ConvLayout& conv = block.convs[i + 1];
      if (i > 0 && block.stride() == 1) {
        parts[i] = All(AddOp({GraphOp::Kind::kAdd, {parts[i - 1], parts[i]}, 0, {}, -1, false, {}},
                             {absl::StrCat(conv.conv, ".input"), width}));
      }
      parts[i] = All(Conv(conv, {parts[i]}));
    }
    if (block.stride() > 1) parts.back() = All(Pool(GraphOp::Kind::kAveragePool, parts.back()));
    return Conv(block.convs.back(), std::move(parts), residual);
  }

  void MarkDeaths() {
    std::vector<bool> read(graph_.values.size());
    read[graph_.output] = true;
    for (auto op = graph_.ops.rbegin(); op != graph_.ops.rend(); ++op) {
      auto note = [&](int value) {
        if (read[value]) return;
        read[value] = true;
        op->dead_after.push_back(value);
      };
      for (const GraphInput& input : op->inputs) note(input.value);
      if (op->residual >= 0) note(op->residual);
    }
  }

  Graph graph_;
};

}  // namespace

Graph MakeGraph(const NetworkLayout& layout) { return Builder().Build(layout); }

std::set<std::string> ValuesRead(const Graph& graph,
                                 absl::FunctionRef<bool(const std::string& conv)> is_int8) {
  std::set<std::string> names;
  for (const GraphOp& op : graph.ops) {
    if (op.kind != GraphOp::Kind::kConv || !is_int8(op.conv.conv)) continue;
    for (const GraphInput& input : op.inputs) {
      if (input.value != 0) names.insert(graph.values[input.value].name);
    }
    if (op.residual >= 0) names.insert(graph.values[op.residual].name);
  }
  return names;
}

}  // namespace dla
