#include "model/int8_conv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace dla {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

FoldedConv Conv1x1(int in, int out, std::vector<float> weight, int groups = 1) {
  return {in, out, 1, 1, groups, std::move(weight), std::vector<float>(out, 0.5F)};
}

TEST(RoundWeightsTest, GivesEachOutputChannelAScaleOfItsOwn) {
  const Int8Conv conv = RoundWeights(Conv1x1(2, 2, {1.27F, -0.5F, 0.0127F, 0.005F}), {1, 1});
  EXPECT_THAT(conv.weight, ElementsAre(127, -50, 127, 50));
  EXPECT_NEAR(conv.scale[0], 0.01F, 1e-6F);
  EXPECT_NEAR(conv.scale[1], 0.0001F, 1e-8F);
  EXPECT_THAT(conv.bias, ElementsAre(0.5F, 0.5F));
}

TEST(RoundWeightsTest, TakesTheInputsStepsIntoTheWeights) {
  // Inputs of which the second one's steps are worth 10 times as much.
  const Int8Conv conv = RoundWeights(Conv1x1(2, 1, {1.27F, 0.127F}), {0.1F, 1});
  EXPECT_THAT(conv.weight, ElementsAre(127, 127));
}

TEST(RoundWeightsTest, TakesTheStepsOfTheGroupThatAnOutputBelongsTo) {
  const Int8Conv conv = RoundWeights(Conv1x1(4, 2, {1, 1, 1, 1}, /*groups=*/2), {1, 1, 0.5F, 1});
  EXPECT_THAT(conv.weight, ElementsAre(127, 127, 64, 127));
}

TEST(RoundWeightsTest, ClipsAFewLargeWeightsWhereThatLeavesTheOthersMore) {
  std::vector<float> weight(2000, 0.004F);
  weight[7] = 1;
  const Int8Conv conv = RoundWeights(Conv1x1(2000, 1, weight), std::vector<float>(2000, 1));
  EXPECT_EQ(conv.weight[7], 127);
  EXPECT_LT(conv.scale[0], 1 / 127.0F * 0.99F);
}

TEST(RoundWeightsTest, LeavesAChannelOfZerosAtZero) {
  const Int8Conv conv = RoundWeights(Conv1x1(2, 1, {0, 1e-30F}), {1, 1});
  EXPECT_THAT(conv.weight, Each(0));
  EXPECT_EQ(conv.scale[0], 1);
}

TEST(DequantizeTest, GivesBackTheWeightsToHalfAScale) {
  FoldedConv conv{4, 3, 3, 1, 1, {}, {1, 2, 3}};
  for (int i = 0; i < 4 * 3 * 9; ++i) conv.weight.push_back(std::sin(static_cast<float>(i)));
  const std::vector<float> steps = {0.5F, 1, 2, 4};
  const Int8Conv int8 = RoundWeights(conv, steps);
  ConvLayout layout{"c", "n", 4, 3, 3};
  const FoldedConv found = Dequantize(layout, int8, steps);
  ASSERT_EQ(found.weight.size(), conv.weight.size());
  EXPECT_EQ(found.bias, conv.bias);
  for (size_t i = 0; i < conv.weight.size(); ++i) {
    const float most = std::abs(int8.weight[i]) == 127 ? 0.5F : 0.5F * int8.scale[i / 36];
    EXPECT_NEAR(found.weight[i], conv.weight[i], most / steps[i / 9 % 4] + 1e-6F) << i;
  }
}

}  // namespace
}  // namespace dla
