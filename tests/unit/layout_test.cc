#include "model/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "model/safetensors.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Key;
using ::testing::Not;

NetworkLayout LayoutOf(absl::string_view name, int num_classes = 1000) {
  return MakeLayout(*FindArchitecture(name).value(), num_classes);
}

std::map<std::string, std::vector<int64_t>> ShapesOf(absl::string_view name) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& tensor : ListTensors(LayoutOf(name))) shapes[tensor.name] = tensor.shape;
  return shapes;
}

TEST(LayoutTest, CountsAsManyParametersAsTimm) {
  auto expected = SafeTensors::Open(DLA_TEST_GOLDEN "/network/expected.safetensors");
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const Architecture& architecture : AllArchitectures()) {
    const TensorView* logits = expected->Find(absl::StrCat(architecture.name, ".logits"));
    const TensorView* parameters = expected->Find(absl::StrCat(architecture.name, ".parameters"));
    ASSERT_NE(logits, nullptr) << architecture.name;
    ASSERT_NE(parameters, nullptr) << architecture.name;
    int64_t count;
    std::memcpy(&count, parameters->bytes.data(), sizeof(count));
    const NetworkLayout layout = MakeLayout(architecture, static_cast<int>(logits->shape.back()));
    EXPECT_EQ(CountParameters(layout), count) << architecture.name;
  }
}

TEST(LayoutTest, ListsEachTensorOnce) {
  for (const Architecture& architecture : AllArchitectures()) {
    const auto tensors = ListTensors(MakeLayout(architecture, 10));
    EXPECT_EQ(ShapesOf(architecture.name).size(), tensors.size()) << architecture.name;
  }
}

TEST(LayoutTest, NamesTensorsAsTimmDoes) {
  const auto shapes = ShapesOf("dla60x");
  EXPECT_THAT(shapes.at("base_layer.0.weight"), ElementsAre(16, 3, 7, 7));
  EXPECT_THAT(shapes.at("level1.1.running_var"), ElementsAre(32));
  // Projects where the channels change, in the innermost tree only.
  EXPECT_THAT(shapes.at("level3.tree1.project.0.weight"), ElementsAre(256, 128, 1, 1));
  EXPECT_THAT(shapes, Not(Contains(Key("level3.project.0.weight"))));
  EXPECT_THAT(shapes, Not(Contains(Key("level3.tree2.project.0.weight"))));
  // 32 groups of 8 channels.
  EXPECT_THAT(shapes.at("level3.tree1.tree1.conv2.weight"), ElementsAre(256, 8, 3, 3));
  // The root of level 4 joins two blocks, the level's input and two subtrees.
  EXPECT_THAT(shapes.at("level4.tree2.tree2.root.conv.weight"),
              ElementsAre(512, 4 * 512 + 256, 1, 1));
  EXPECT_THAT(shapes.at("fc.weight"), ElementsAre(1000, 1024, 1, 1));
  EXPECT_THAT(ShapesOf("dla60_res2next"), Contains(Key("level5.tree2.bns.2.running_mean")));
}

TEST(LayoutTest, HalvesTheResolutionOncePerTree) {
  for (const Architecture& architecture : AllArchitectures()) {
    const NetworkLayout layout = LayoutOf(architecture.name);
    for (const TreeLayout& tree : layout.trees) {
      int halvings = 0;
      const TreeLayout* node = &tree;
      for (; !node->subtrees.empty(); node = &node->subtrees.front()) {
        halvings += node->first.stride() - 1;
        EXPECT_EQ(node->stride, 2);
      }
      halvings += node->first.stride() - 1;
      EXPECT_EQ(halvings, 1) << architecture.name;
    }
  }
}

}  // namespace
}  // namespace dla
