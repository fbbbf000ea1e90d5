// A DLA network as a list of operations on named values, in the order of the forward pass: what
// calibration observes and what an int8 network rounds.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "model/layout.h"

namespace dla {

struct GraphValue {
  // Of the convolution that computed it, of the one whose ".input" it is (a sum of a Bottle2neck),
  // or of the value that it was pooled from; empty: the photo. See Quantization::steps.
  std::string name;
  int channels = 0;
  bool is_signed = false;  // no ReLU follows
};

// Some channels of a value.
struct GraphInput {
  int value = 0;
  int first_channel = 0;
  int channels = 0;
};

struct GraphOp {
  // kMaxPool: 2x2, stride 2. kAveragePool: 3x3, padding 1, counted, stride 2. kAdd: of two inputs.
  enum class Kind { kConv, kMaxPool, kAveragePool, kAdd };

  Kind kind = Kind::kConv;
  std::vector<GraphInput> inputs;  // a convolution's are joined by channels
  int output = 0;                  // value
  // Of a convolution.
  ConvLayout conv;
  int residual = -1;  // value that is added, or -1
  bool relu = true;

  std::vector<int> dead_after;  // values that no later operation reads
};

struct Graph {
  std::vector<GraphValue> values;  // the first one is the photo
  std::vector<GraphOp> ops;
  int output = 0;  // value before the global average
};

Graph MakeGraph(const NetworkLayout& layout);

// The values that any convolution reads, as input or residual, for which `is_int8` holds: those
// that need a step. The photo has its own and is not among them.
std::set<std::string> ValuesRead(const Graph& graph,
                                 absl::FunctionRef<bool(const std::string& conv)> is_int8);

}  // namespace dla
