#include "model/photo_agreement.h"

#include <gtest/gtest.h>

#include <cmath>

namespace dla {
namespace {

BatchOutput Answers(std::vector<float> logits, std::vector<float> embeddings) {
  BatchOutput output;
  output.logits = std::move(logits);
  output.embeddings = std::move(embeddings);
  return output;
}

TEST(CompareAnswersTest, CountsTheSameFirstClass) {
  const auto exact = Answers({2, 1, 0, 3}, {1, 0, 1, 0});
  const auto other = Answers({2, 1, 3, 0}, {1, 0, 0, 1});
  const Agreement found = CompareAnswers(exact, other, 2, {});
  EXPECT_EQ(found.photos, 2);
  EXPECT_EQ(found.top1, 0.5);
  EXPECT_EQ(found.mean_cosine, 0.5);
  EXPECT_EQ(found.worst_cosine, 0);
  const double flipped = std::exp(3) / (std::exp(3) + 1) - 1 / (std::exp(3) + 1);
  EXPECT_NEAR(found.worst_probability_off, flipped, 1e-6);
  EXPECT_NEAR(found.mean_probability_off, flipped / 2, 1e-6);
  EXPECT_EQ(found.labelled, 0);
}

TEST(CompareAnswersTest, TellsTheAccuracyOfPhotosWhoseClassIsKnown) {
  const auto exact = Answers({1, 0, 1, 0, 1, 0}, {1, 1, 1});
  const auto other = Answers({1, 0, 0, 1, 0, 1}, {1, 1, 1});
  const int labels[] = {0, 0, -1};
  const Agreement found = CompareAnswers(exact, other, 3, labels);
  EXPECT_EQ(found.labelled, 2);
  EXPECT_EQ(found.exact_accuracy, 1);
  EXPECT_EQ(found.other_accuracy, 0.5);
}

TEST(CompareAnswersTest, AgreesOnNothingThatIsNoNumber) {
  const auto exact = Answers({1, 0}, {1});
  const Agreement found = CompareAnswers(exact, Answers({1, NAN}, {NAN}), 1, {});
  EXPECT_EQ(found.top1, 0);
  EXPECT_EQ(found.mean_cosine, 0);
  EXPECT_EQ(found.worst_probability_off, 1);
}

}  // namespace
}  // namespace dla
