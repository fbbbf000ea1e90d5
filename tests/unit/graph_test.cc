#include "model/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/architecture.h"
#include "tests/support/variants.h"

namespace dla {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

Graph GraphOf(const std::string& name) {
  return MakeGraph(MakeLayout(**FindArchitecture(name), /*num_classes=*/3));
}

std::set<std::string> AllValuesRead(const Graph& graph) {
  return ValuesRead(graph, [](const std::string&) { return true; });
}

class GraphOfEachVariantTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GraphOfEachVariantTest, HasEveryConvolutionOnceWithAllItsInputChannels) {
  const NetworkLayout layout = MakeLayout(**FindArchitecture(GetParam()), 3);
  std::multiset<std::string> expected;
  for (const TensorSpec& tensor : ListTensors(layout)) {
    if (tensor.shape.size() == 4 && tensor.name != "fc.weight") expected.insert(tensor.name);
  }
  std::multiset<std::string> found;
  const Graph graph = MakeGraph(layout);
  for (const GraphOp& op : graph.ops) {
    if (op.kind != GraphOp::Kind::kConv) continue;
    found.insert(op.conv.conv + ".weight");
    int channels = 0;
    for (const GraphInput& input : op.inputs) {
      channels += input.channels;
      EXPECT_LE(input.first_channel + input.channels, graph.values[input.value].channels);
    }
    EXPECT_EQ(channels, op.conv.in_channels) << op.conv.conv;
  }
  EXPECT_EQ(found, expected);
}

TEST_P(GraphOfEachVariantTest, ReadsNothingThatIsNotThereAnyMore) {
  const Graph graph = GraphOf(GetParam());
  std::set<int> alive = {0};
  for (const GraphOp& op : graph.ops) {
    for (const GraphInput& input : op.inputs) EXPECT_TRUE(alive.contains(input.value));
    EXPECT_TRUE(op.residual < 0 || alive.contains(op.residual));
    alive.insert(op.output);
    for (int dead : op.dead_after) EXPECT_EQ(alive.erase(dead), 1);
  }
  EXPECT_THAT(alive, ElementsAre(graph.output));
}

INSTANTIATE_TEST_SUITE_P(Variants, GraphOfEachVariantTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& test) { return test.param; });

TEST(GraphTest, JoinsTheRootsInputsInTheOrderOfItsWeights) {
  const Graph graph = GraphOf("dla34");
  for (const GraphOp& op : graph.ops) {
    if (op.conv.conv != "level3.tree2.root.conv") continue;
    std::vector<std::string> names;
    for (const GraphInput& input : op.inputs) names.push_back(graph.values[input.value].name);
    EXPECT_THAT(names, ElementsAre("level3.tree2.tree2.conv2", "level3.tree2.tree1.conv2",
                                   "level2.root.conv", "level3.tree1.root.conv"));
    return;
  }
  FAIL() << "no such root";
}

TEST(GraphTest, NeedsNoStepForWhatIsAveragedAtTheEnd) {
  const std::set<std::string> values = AllValuesRead(GraphOf("dla34"));
  EXPECT_THAT(values, Contains("base_layer.0"));
  EXPECT_THAT(values, Contains("level5.project.0"));
  EXPECT_THAT(values, Not(Contains("level5.root.conv")));
}

TEST(GraphTest, NamesTheSumsOfARes2NetBlockByTheConvolutionThatReadsThem) {
  const std::set<std::string> values = AllValuesRead(GraphOf("dla60_res2net"));
  EXPECT_THAT(values, Contains("level2.tree2.convs.1.input"));
  EXPECT_THAT(values, Not(Contains("level2.tree2.convs.0.input")));  // reads a part as it is
  EXPECT_THAT(values, Not(Contains("level2.tree1.convs.1.input")));  // with a stride of 2: no sums
}

TEST(GraphTest, NeedsStepsOnlyForWhatInt8ConvolutionsRead) {
  const Graph graph = GraphOf("dla34");
  EXPECT_THAT(
      ValuesRead(graph, [](const std::string& conv) { return conv == "level2.tree1.conv2"; }),
      ElementsAre("level2.project.0", "level2.tree1.conv1"));
}

TEST(GraphTest, AddsTheShortcutOfARootAsAResidual) {
  for (const auto& [variant, adds] : {std::pair("dla102", true), std::pair("dla60", false)}) {
    for (const GraphOp& op : GraphOf(variant).ops) {
      if (op.conv.conv != "level5.root.conv") continue;
      EXPECT_EQ(op.residual >= 0, adds) << variant;
    }
  }
}

}  // namespace
}  // namespace dla
