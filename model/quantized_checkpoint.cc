#include "model/quantized_checkpoint.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "model/checkpoint.h"
#include "model/status_macros.h"

namespace dla {
namespace {

using Values = TensorSpec::Values;

std::string WeightName(const std::string& conv) { return absl::StrCat(conv, ".weight"); }
std::string ScaleName(const std::string& conv) { return absl::StrCat(conv, ".scale"); }
std::string BiasName(const std::string& conv) { return absl::StrCat(conv, ".bias"); }
std::string StepName(const std::string& value) { return absl::StrCat(value, ".step"); }

// Not four dimensions, so that what reads float weights of that name does not take these for them.
std::vector<int64_t> WeightShape(const ConvLayout& conv) {
  return {conv.out_channels, conv.in_channels / conv.groups * conv.kernel * conv.kernel};
}

// Calls `visit` for each convolution, in the order of the forward pass.
template <typename Visit>
void ForConvs(const Graph& graph, Visit visit) {
  for (const GraphOp& op : graph.ops) {
    if (op.kind == GraphOp::Kind::kConv) visit(op.conv);
  }
}

std::vector<TensorSpec> ListTensors(const NetworkLayout& layout, const Graph& graph,
                                    const std::set<std::string>& int8) {
  std::vector<TensorSpec> tensors;
  ForConvs(graph, [&](const ConvLayout& conv) {
    if (!int8.contains(conv.conv)) {
      AppendTensors(conv, tensors);
      return;
    }
    tensors.push_back({WeightName(conv.conv), WeightShape(conv), true, Values::kInt8});
    tensors.push_back({ScaleName(conv.conv), {conv.out_channels}, false, Values::kPositive});
    tensors.push_back({BiasName(conv.conv), {conv.out_channels}});
  });
  auto is_int8 = [&](const std::string& conv) { return int8.contains(conv); };
  for (const std::string& value : ValuesRead(graph, is_int8)) {
    tensors.push_back({StepName(value), {}, false, Values::kPositive});
  }
  tensors.push_back({"fc.weight", {layout.num_classes, layout.embedding_size, 1, 1}});
  tensors.push_back({"fc.bias", {layout.num_classes}});
  return tensors;
}

absl::StatusOr<std::set<std::string>> Int8Convs(const Graph& graph, const SafeTensors& checkpoint,
                                                absl::string_view name) {
  std::set<std::string> int8;
  ForConvs(graph, [&](const ConvLayout& conv) {
    const TensorView* weight = checkpoint.Find(WeightName(conv.conv));
    if (weight != nullptr && weight->dtype == DType::kI8) int8.insert(conv.conv);
  });
  if (int8.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " holds no convolution in I8, though config.json beside it has a \"quantization\""));
  }
  return int8;
}

}  // namespace

absl::StatusOr<Quantization> ReadQuantization(const NetworkLayout& layout,
                                              const SafeTensors& checkpoint,
                                              absl::string_view name) {
  const Graph graph = MakeGraph(layout);
  DLA_ASSIGN_OR_RETURN(const std::set<std::string> int8, Int8Convs(graph, checkpoint, name));
  const std::vector<TensorSpec> tensors = ListTensors(layout, graph, int8);
  DLA_RETURN_IF_ERROR(CheckTensors(
      tensors,
      absl::StrCat("an int8 ", layout.architecture, " with ", layout.num_classes, " classes"),
      checkpoint, name));
  DLA_RETURN_IF_ERROR(CheckValues(tensors, checkpoint, name));

  Quantization result;
  for (const std::string& conv : int8) {
    const absl::Span<const uint8_t> weight = checkpoint.Find(WeightName(conv))->bytes;
    const auto* values = reinterpret_cast<const int8_t*>(weight.data());
    result.convs[conv] = {{values, values + weight.size()},
                          ToFloats(*checkpoint.Find(ScaleName(conv))),
                          ToFloats(*checkpoint.Find(BiasName(conv)))};
  }
  auto is_int8 = [&](const std::string& conv) { return int8.contains(conv); };
  for (const std::string& value : ValuesRead(graph, is_int8)) {
    result.steps[value] = ToFloats(*checkpoint.Find(StepName(value))).front();
  }
  return result;
}

TensorsToWrite QuantizedTensors(const NetworkLayout& layout, const Quantization& quantization,
                                const SafeTensors& source) {
  const Graph graph = MakeGraph(layout);
  TensorsToWrite tensors;
  std::vector<TensorSpec> wide = {{"fc.weight", {}}, {"fc.bias", {}}};
  ForConvs(graph, [&](const ConvLayout& conv) {
    const auto found = quantization.convs.find(conv.conv);
    if (found == quantization.convs.end()) {
      AppendTensors(conv, wide);
      return;
    }
    const Int8Conv& int8 = found->second;
    tensors[WeightName(conv.conv)] = ViewOf(int8.weight, WeightShape(conv));
    tensors[ScaleName(conv.conv)] = ViewOf(int8.scale, {conv.out_channels});
    tensors[BiasName(conv.conv)] = ViewOf(int8.bias, {conv.out_channels});
  });
  for (const auto& [value, step] : quantization.steps) tensors[StepName(value)] = ViewOf(step);
  for (const TensorSpec& tensor : wide) tensors[tensor.name] = *source.Find(tensor.name);
  return tensors;
}

absl::StatusOr<std::map<std::string, float>> ReadSteps(const NetworkLayout& layout,
                                                       const SafeTensors& file,
                                                       absl::string_view name) {
  const Graph graph = MakeGraph(layout);
  std::vector<TensorSpec> tensors;
  for (const std::string& value : ValuesRead(graph, [](const std::string&) { return true; })) {
    tensors.push_back({StepName(value), {}, false, Values::kPositive});
  }
  DLA_RETURN_IF_ERROR(
      CheckTensors(tensors, absl::StrCat("the steps of a ", layout.architecture), file, name));
  DLA_RETURN_IF_ERROR(CheckValues(tensors, file, name));
  std::map<std::string, float> steps;
  for (const TensorSpec& tensor : tensors) {
    steps[std::string(absl::StripSuffix(tensor.name, ".step"))] =
        ToFloats(*file.Find(tensor.name)).front();
  }
  return steps;
}

}  // namespace dla
