#include "model/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dla {
namespace {

using ::testing::HasSubstr;

TEST(ArchitectureTest, KnowsTheTwelveVariantsOfTimm) {
  EXPECT_EQ(AllArchitectures().size(), 12u);
  for (const Architecture& architecture : AllArchitectures()) {
    auto found = FindArchitecture(architecture.name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, &architecture);
  }
}

TEST(ArchitectureTest, NamesTheUnknownOneAndThoseThatExist) {
  const absl::Status status = FindArchitecture("resnet50").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"resnet50\""));
  EXPECT_THAT(std::string(status.message()), HasSubstr("dla60_res2next"));
}

// timm itself fails on the sizes that are refused: its strided convolutions and max-pools disagree.
TEST(ArchitectureTest, TakesSizesWhereConvolutionAndPoolingAgree) {
  for (int size : {31, 32, 64, 96, 223, 224, 256, 288, 512}) {
    EXPECT_TRUE(CheckInputSize(size, 224).ok()) << size;
    EXPECT_TRUE(CheckInputSize(224, size).ok()) << size;
  }
  for (int size : {-32, 0, 1, 16, 30, 33, 225, 230, 240, 300}) {
    EXPECT_EQ(CheckInputSize(size, 224).code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(CheckInputSize(224, size).code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

}  // namespace
}  // namespace dla
