// Which layers a DLA network has and how timm names their tensors: a tree of plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "model/architecture.h"

namespace dla {

// A convolution (no bias, padding kernel / 2) and the BatchNorm that follows it.
struct ConvLayout {
  std::string
      conv;  // tensor "<conv>.weight" of [out_channels, in_channels / groups, kernel, kernel]
  std::string norm;  // "<norm>.weight", ".bias", ".running_mean", ".running_var" of [out_channels]
  int in_channels = 0;
  int out_channels = 0;
  int kernel = 1;
  int stride = 1;
  int groups = 1;
};

// The convolutions in timm's order: Basic conv1, conv2; Bottleneck conv1 to conv3;
// Bottle2neck conv1, convs.0 to convs.2, conv3.
struct BlockLayout {
  Block kind;
  std::vector<ConvLayout> convs;

  int stride() const { return convs[kind == Block::kBasic ? 0 : 1].stride; }
};

// Iterative and hierarchical aggregation in one node (DLA paper, fig. 3). timm nests a tree of
// depth L as tree1 (depth L - 1) and tree2 (depth L - 1 again, and so on down to depth 1). Followed
// along tree2 that is L - 1 subtrees one after the other, two blocks and the root that joins them
// all:
//   x -> subtrees[0] -> ... -> subtrees[L - 2] -> first -> second -> root
struct TreeLayout {
  int stride = 1;            // 2: the tree halves the resolution in its very first block
  bool joins_input = false;  // the root also joins the tree's input, max-pooled by `stride`
  std::vector<TreeLayout> subtrees;
  std::optional<ConvLayout> project;  // of the pooled input, to be first's residual
  BlockLayout first;
  BlockLayout second;
  // 1x1 over the concatenation of second, first, [pooled input], subtrees[0], subtrees[1], ...
  ConvLayout root;
  bool root_shortcut = false;  // the root adds second's output before its ReLU
};

struct NetworkLayout {
  absl::string_view architecture;  // "dla34"
  std::vector<ConvLayout> stem;    // base_layer, level0, level1; each followed by a ReLU
  std::vector<TreeLayout> trees;   // level2 to level5
  // Global average pooling, then "fc.weight" of [num_classes, embedding_size, 1, 1] and "fc.bias".
  int embedding_size = 0;
  int num_classes = 0;
};

NetworkLayout MakeLayout(const Architecture& architecture, int num_classes);

struct TensorSpec {
  // kFloat: F32, F16 or BF16; kPositive: F32, see kLeastScale; kInt8: I8, -127 to 127.
  enum class Values { kFloat, kPositive, kInt8 };

  std::string name;
  std::vector<int64_t> shape;
  bool is_parameter = true;  // false: a running statistic
  Values values = Values::kFloat;
};

// Those of a convolution and its BatchNorm.
void AppendTensors(const ConvLayout& conv, std::vector<TensorSpec>& tensors);

// Every tensor that a checkpoint of this network must hold, in the order of the forward pass.
std::vector<TensorSpec> ListTensors(const NetworkLayout& layout);

// As timm counts parameters: weights and biases without running statistics.
int64_t CountParameters(const NetworkLayout& layout);

}  // namespace dla
