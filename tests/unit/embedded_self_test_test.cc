// The embedded model and its self-test, on every engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/dla_model.h"
#include "model/self_test.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(EmbeddedSelfTestTest, PassesInEachPrecisionOfEachEngine) {
  const auto photos = EmbeddedSelfTest();
  ASSERT_TRUE(photos.ok()) << photos.status();
  ASSERT_FALSE(photos->empty());
  EXPECT_EQ(photos->front().embedding.size(), 256u);
  for (const Engine engine : {Engine::kFast, Engine::kLibTorch, Engine::kReference}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto model = LoadEmbeddedModel({.precision = precision, .engine = engine});
      if (model.status().code() == absl::StatusCode::kUnimplemented) continue;
      ASSERT_TRUE(model.ok()) << model.status();
      const absl::Status status = RunSelfTest(**model, *photos);
      EXPECT_TRUE(status.ok()) << (*model)->info().engine << ": " << status;
    }
  }
}

TEST(EmbeddedSelfTestTest, FailsWithAnotherClassOrEmbedding) {
  const auto model = LoadEmbeddedModel({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  auto photos = EmbeddedSelfTest();
  ASSERT_TRUE(photos.ok()) << photos.status();
  SelfTestPhoto& photo = photos->front();
  // timm's own embedding is far nearer than bf16 allows for.
  photo.tolerance = 1e-4;
  EXPECT_TRUE(RunSelfTest(**model, *photos).ok());
  for (float& value : photo.embedding) value *= 1.001F;
  absl::Status status = RunSelfTest(**model, *photos);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sunflowers_9558627290.jpg"), HasSubstr("distance of 0.0001")));
  photo.top1 = "roses";
  status = RunSelfTest(**model, *photos);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("expected \"roses\", found \"sunflowers\" (class 3)"));
}

}  // namespace
}  // namespace dla
