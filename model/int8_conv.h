// Between a convolution in float32 and in int8.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/folded_conv.h"
#include "model/graph.h"
#include "model/input_spec.h"
#include "model/quantization.h"

namespace dla {

// What one step of each input channel of a convolution is worth. `steps` has all that it reads, but
// for the photo, whose steps follow from `input`.
std::vector<float> InputSteps(const Graph& graph, const GraphOp& op,
                              const std::map<std::string, float>& steps, const InputSpec& input);

// Rounds to nearest with, for each output channel, the scale with which the error in the weights,
// times the inputs' steps, is least: clipping a few large ones may leave more for all others.
// `input_steps`: [in_channels], positive. The bias stays.
Int8Conv RoundWeights(const FoldedConv& conv, absl::Span<const float> input_steps);

// What `conv` computes with inputs in real numbers.
FoldedConv Dequantize(const ConvLayout& layout, const Int8Conv& conv,
                      absl::Span<const float> input_steps);

}  // namespace dla
