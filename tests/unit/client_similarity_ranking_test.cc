#include "client/similarity_ranking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace dla::client {
namespace {

using ::testing::HasSubstr;

dla::v1::ClassifyResponse Answer(std::vector<float> embedding, const std::string& version = "1") {
  dla::v1::ClassifyResponse answer;
  answer.set_model("m");
  answer.set_model_version(version);
  for (const float value : embedding) answer.add_embedding(value);
  return answer;
}

// At so many degrees from the query {1, 0}.
dla::v1::ClassifyResponse At(double degrees) {
  const double angle = degrees * M_PI / 180;
  return Answer({static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
}

TEST(SimilarityRankingTest, KeepsTheNearestInFallingOrder) {
  SimilarityRanking ranking(3);
  ASSERT_TRUE(ranking.SetQuery(At(0)).ok());
  for (const int degrees : {90, 10, 180, 60, 0, 30}) {
    ASSERT_TRUE(ranking.Add(std::to_string(degrees), At(degrees)).ok());
  }
  ASSERT_EQ(ranking.photos().size(), 3u);
  EXPECT_EQ(ranking.photos()[0].file, "0");
  EXPECT_EQ(ranking.photos()[1].file, "10");
  EXPECT_EQ(ranking.photos()[2].file, "30");
  EXPECT_NEAR(ranking.photos()[0].similarity, 1, 1e-6);
  EXPECT_NEAR(ranking.photos()[2].similarity, 0.866025, 1e-6);
}

TEST(SimilarityRankingTest, KeepsEqualOnesInTheOrderInWhichTheyCame) {
  SimilarityRanking ranking(2);
  ASSERT_TRUE(ranking.SetQuery(At(0)).ok());
  for (const std::string file : {"b", "a", "c"}) ASSERT_TRUE(ranking.Add(file, At(45)).ok());
  ASSERT_EQ(ranking.photos().size(), 2u);
  EXPECT_EQ(ranking.photos()[0].file, "b");
  EXPECT_EQ(ranking.photos()[1].file, "a");
}

TEST(SimilarityRankingTest, RefusesAnotherModelOrVersion) {
  SimilarityRanking ranking(3);
  ASSERT_TRUE(ranking.SetQuery(At(0)).ok());
  const absl::Status status = ranking.Add("x.jpg", Answer({1, 0}, "2"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("answered by m version 1, x.jpg by m version 2"));
  EXPECT_TRUE(ranking.photos().empty());
}

TEST(SimilarityRankingTest, RefusesWhatHasNoDirection) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  SimilarityRanking ranking(3);
  for (const auto& embedding : std::vector<std::vector<float>>{{}, {0, 0}, {nan, 1}, {3, 4}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ranking.SetQuery(Answer(embedding))));
  }
  ASSERT_TRUE(ranking.SetQuery(At(0)).ok());
  for (const auto& embedding : std::vector<std::vector<float>>{{}, {1}, {0, 0}, {nan, 1}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ranking.Add("x", Answer(embedding))));
  }
  EXPECT_TRUE(ranking.photos().empty());
}

}  // namespace
}  // namespace dla::client
