#include "model/layout.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dla {
namespace {

constexpr int kScale = 4;  // parts of a Bottle2neck

BlockLayout MakeBlock(const Architecture& a, absl::string_view prefix, int in, int out,
                      int stride) {
  auto conv = [&](absl::string_view conv_name, absl::string_view norm_name, int conv_in,
                  int conv_out, int kernel, int conv_stride, int groups) {
    return ConvLayout{absl::StrCat(prefix, ".", conv_name),
                      absl::StrCat(prefix, ".", norm_name),
                      conv_in,
                      conv_out,
                      kernel,
                      conv_stride,
                      groups};
  };
  const int width = out * a.base_width / 64 * a.cardinality / 2;
  BlockLayout block{a.block, {}};
  switch (a.block) {
    case Block::kBasic:
      block.convs = {conv("conv1", "bn1", in, out, 3, stride, 1),
                     conv("conv2", "bn2", out, out, 3, 1, 1)};
      break;
    case Block::kBottleneck:
      block.convs = {conv("conv1", "bn1", in, width, 1, 1, 1),
                     conv("conv2", "bn2", width, width, 3, stride, a.cardinality),
                     conv("conv3", "bn3", width, out, 1, 1, 1)};
      break;
    case Block::kBottle2neck:
      block.convs.push_back(conv("conv1", "bn1", in, width * kScale, 1, 1, 1));
      for (int i = 0; i < kScale - 1; ++i) {
        block.convs.push_back(conv(absl::StrCat("convs.", i), absl::StrCat("bns.", i), width, width,
                                   3, stride, a.cardinality));
      }
      block.convs.push_back(conv("conv3", "bn3", width * kScale, out, 1, 1, 1));
      break;
  }
  return block;
}

TreeLayout MakeTree(const Architecture& a, const std::string& name, int depth, int in, int out,
                    int stride, bool joins_input) {
  TreeLayout tree;
  tree.stride = stride;
  tree.joins_input = joins_input;
  tree.root_shortcut = a.root_shortcut;

  std::string prefix = name;
  int block_in = in;
  int block_stride = stride;
  for (int subtree_depth = depth - 1; subtree_depth >= 1; --subtree_depth) {
    tree.subtrees.push_back(MakeTree(a, absl::StrCat(prefix, ".tree1"), subtree_depth, block_in,
                                     out, block_stride, /*joins_input=*/false));
    absl::StrAppend(&prefix, ".tree2");
    block_in = out;
    block_stride = 1;
  }
  tree.first = MakeBlock(a, absl::StrCat(prefix, ".tree1"), block_in, out, block_stride);
  tree.second = MakeBlock(a, absl::StrCat(prefix, ".tree2"), out, out, 1);
  if (block_in != out) {
    tree.project = ConvLayout{absl::StrCat(prefix, ".project.0"),
                              absl::StrCat(prefix, ".project.1"), block_in, out};
  }
  const int joined = (joins_input ? in : 0) + out * static_cast<int>(tree.subtrees.size() + 2);
  tree.root =
      ConvLayout{absl::StrCat(prefix, ".root.conv"), absl::StrCat(prefix, ".root.bn"), joined, out};
  return tree;
}

void Append(const TreeLayout& tree, std::vector<TensorSpec>& out) {
  for (const TreeLayout& subtree : tree.subtrees) Append(subtree, out);
  if (tree.project) AppendTensors(*tree.project, out);
  for (const ConvLayout& conv : tree.first.convs) AppendTensors(conv, out);
  for (const ConvLayout& conv : tree.second.convs) AppendTensors(conv, out);
  AppendTensors(tree.root, out);
}

}  // namespace

NetworkLayout MakeLayout(const Architecture& a, int num_classes) {
  NetworkLayout layout;
  layout.architecture = a.name;
  layout.stem.push_back({"base_layer.0", "base_layer.1", 3, a.channels[0], /*kernel=*/7});
  for (int level = 0; level < 2; ++level) {
    int in = a.channels[0];
    for (int i = 0; i < a.levels[level]; ++i) {
      // timm's Sequential counts convolution, norm and ReLU.
      layout.stem.push_back({absl::StrCat("level", level, ".", 3 * i),
                             absl::StrCat("level", level, ".", 3 * i + 1), in, a.channels[level],
                             /*kernel=*/3, /*stride=*/level == 1 && i == 0 ? 2 : 1});
      in = a.channels[level];
    }
  }
  for (int level = 2; level < 6; ++level) {
    layout.trees.push_back(MakeTree(a, absl::StrCat("level", level), a.levels[level],
                                    a.channels[level - 1], a.channels[level], /*stride=*/2,
                                    /*joins_input=*/level > 2));
  }
  layout.embedding_size = a.embedding_size();
  layout.num_classes = num_classes;
  return layout;
}

void AppendTensors(const ConvLayout& c, std::vector<TensorSpec>& out) {
  out.push_back({absl::StrCat(c.conv, ".weight"),
                 {c.out_channels, c.in_channels / c.groups, c.kernel, c.kernel}});
  out.push_back({absl::StrCat(c.norm, ".weight"), {c.out_channels}});
  out.push_back({absl::StrCat(c.norm, ".bias"), {c.out_channels}});
  out.push_back({absl::StrCat(c.norm, ".running_mean"), {c.out_channels}, /*is_parameter=*/false});
  out.push_back({absl::StrCat(c.norm, ".running_var"), {c.out_channels}, /*is_parameter=*/false});
}

std::vector<TensorSpec> ListTensors(const NetworkLayout& layout) {
  std::vector<TensorSpec> tensors;
  for (const ConvLayout& conv : layout.stem) AppendTensors(conv, tensors);
  for (const TreeLayout& tree : layout.trees) Append(tree, tensors);
  tensors.push_back({"fc.weight", {layout.num_classes, layout.embedding_size, 1, 1}});
  tensors.push_back({"fc.bias", {layout.num_classes}});
  return tensors;
}

int64_t CountParameters(const NetworkLayout& layout) {
  int64_t count = 0;
  for (const TensorSpec& tensor : ListTensors(layout)) {
    if (!tensor.is_parameter) continue;
    int64_t elements = 1;
    for (int64_t size : tensor.shape) elements *= size;
    count += elements;
  }
  return count;
}

}  // namespace dla
