// The twelve DLA variants of timm, as data.
#pragma once

#include <array>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace dla {

enum class Block {
  kBasic,        // two 3x3 convolutions (DLA paper, fig. 3)
  kBottleneck,   // 1x1, 3x3 (grouped in the x variants), 1x1
  kBottle2neck,  // the 3x3 split into a hierarchy of 4 (Res2Net paper, arXiv 1904.01169)
};

// Source: timm 1.0.31 timm/models/dla.py; papers arXiv 1707.06484 and 1904.01169.
struct Architecture {
  absl::string_view name;
  Block block;
  std::array<int, 6> levels;    // level 0-1: number of convolutions; level 2-5: depth of the tree
  std::array<int, 6> channels;  // output channels of each level
  int cardinality = 1;          // groups of the 3x3 convolution
  int base_width = 64;          // width of one group when a block puts out 64 channels
  bool root_shortcut = false;   // the root adds its first input to its output

  int embedding_size() const { return channels.back(); }
};

absl::Span<const Architecture> AllArchitectures();

// NOT_FOUND lists the names that exist.
absl::StatusOr<const Architecture*> FindArchitecture(absl::string_view name);

// INVALID_ARGUMENT unless a DLA takes photos of this size: 32k or 32k - 1 pixels a side, since the
// strided convolutions round up where the pooling beside them rounds down.
absl::Status CheckInputSize(int height, int width);

}  // namespace dla
