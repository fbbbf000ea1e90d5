#include "model/top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace dla {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<int> Indices(const std::vector<ClassProbability>& classes) {
  std::vector<int> indices;
  for (const ClassProbability& c : classes) indices.push_back(c.index);
  return indices;
}

TEST(TopKTest, AgreesWithTorch) {
  std::ifstream golden(DLA_TEST_GOLDEN "/formats/top_k.txt");
  std::string line;
  ASSERT_TRUE(std::getline(golden, line));
  std::istringstream numbers(line);
  std::vector<float> logits;
  for (float logit; numbers >> logit;) logits.push_back(logit);
  ASSERT_EQ(logits.size(), 40u);

  for (int k : {1, 5, 40}) {
    const std::vector<ClassProbability> classes = TopK(logits, k);
    ASSERT_EQ(classes.size(), static_cast<size_t>(k));
  }
  for (const ClassProbability& actual : TopK(logits, 40)) {
    int index;
    float probability;
    ASSERT_TRUE(golden >> index >> probability);
    EXPECT_EQ(actual.index, index);
    EXPECT_NEAR(actual.probability, probability, 2e-6 * probability);
  }
}

TEST(TopKTest, TakesAnyK) {
  const std::vector<float> logits = {1, 3, 2};
  EXPECT_THAT(TopK(logits, 0), IsEmpty());
  EXPECT_THAT(Indices(TopK(logits, 1)), ElementsAre(1));
  EXPECT_THAT(Indices(TopK(logits, 3)), ElementsAre(1, 2, 0));
  EXPECT_THAT(Indices(TopK(logits, 4)), ElementsAre(1, 2, 0));
  EXPECT_THAT(Indices(TopK(logits, std::numeric_limits<int>::max())), ElementsAre(1, 2, 0));
  EXPECT_THAT(TopK({}, 5), IsEmpty());
}

TEST(TopKTest, BreaksTiesByLowerIndex) {
  EXPECT_THAT(Indices(TopK(std::vector<float>{0, 7, 7, -1, 7}, 4)), ElementsAre(1, 2, 4, 0));
  const std::vector<ClassProbability> zeros = TopK(std::vector<float>{0.0f, -0.0f, 0.0f}, 2);
  EXPECT_THAT(Indices(zeros), ElementsAre(0, 1));
  EXPECT_FLOAT_EQ(zeros[0].probability, 1.0f / 3);
}

TEST(TopKTest, StaysExactForLargeLogits) {
  const std::vector<ClassProbability> classes = TopK(std::vector<float>{1e4f, 1e4f - 1, -1e4f}, 3);
  EXPECT_THAT(Indices(classes), ElementsAre(0, 1, 2));
  EXPECT_NEAR(classes[0].probability, 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(classes[1].probability, 1 / (1 + std::exp(1.0)), 1e-6);
  EXPECT_EQ(classes[2].probability, 0.0f);

  const float max = std::numeric_limits<float>::max();
  const std::vector<ClassProbability> extreme = TopK(std::vector<float>{-max, max}, 2);
  EXPECT_EQ(extreme[0].probability, 1.0f);
  EXPECT_EQ(extreme[1].probability, 0.0f);

  const std::vector<ClassProbability> low = TopK(std::vector<float>{-1e4f, -1e4f}, 2);
  EXPECT_FLOAT_EQ(low[0].probability, 0.5f);
}

TEST(TopKTest, SortsWhatIsNotFiniteLastAndCountsItAsZero) {
  const std::vector<ClassProbability> classes =
      TopK(std::vector<float>{kNaN, 1, kInf, 1, -kInf, kNaN}, 6);
  EXPECT_THAT(Indices(classes), ElementsAre(1, 3, 0, 2, 4, 5));
  EXPECT_FLOAT_EQ(classes[0].probability, 0.5f);
  EXPECT_FLOAT_EQ(classes[1].probability, 0.5f);
  for (int i = 2; i < 6; ++i) EXPECT_EQ(classes[i].probability, 0.0f);

  for (const ClassProbability& c : TopK(std::vector<float>{kNaN, kInf, -kInf}, 3)) {
    EXPECT_EQ(c.probability, 0.0f);
  }
}

TEST(NormalizeL2Test, ScalesToLengthOne) {
  std::vector<float> vector = {3, 0, -4};
  NormalizeL2(absl::MakeSpan(vector));
  EXPECT_THAT(vector, ElementsAre(0.6f, 0.0f, -0.8f));

  for (float scale : {1e-30f, 1e30f}) {  // whose squares are out of float's range
    std::vector<float> scaled = {3 * scale, 4 * scale};
    NormalizeL2(absl::MakeSpan(scaled));
    EXPECT_NEAR(scaled[0], 0.6f, 1e-6) << scale;
    EXPECT_NEAR(scaled[1], 0.8f, 1e-6) << scale;
  }
}

TEST(NormalizeL2Test, LeavesWhatHasNoLength) {
  std::vector<float> zero(4);
  NormalizeL2(absl::MakeSpan(zero));
  EXPECT_THAT(zero, ElementsAre(0, 0, 0, 0));

  std::vector<float> infinite = {1, kInf};
  NormalizeL2(absl::MakeSpan(infinite));
  EXPECT_THAT(infinite, ElementsAre(1, kInf));

  NormalizeL2({});
}

}  // namespace
}  // namespace dla
