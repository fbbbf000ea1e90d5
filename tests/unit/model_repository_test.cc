#include "server/model_repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::HasSubstr;

class ModelRepositoryTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name = "") { return folder_.Path(name); }

  std::string ErrorOf(const ServerConfig& config) {
    const absl::Status status = FindModelFolders(config).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }

  dla::testing::TempDir folder_;
};

TEST_F(ModelRepositoryTest, FindsNothingWhenNothingIsNamed) {
  EXPECT_TRUE(FindModelFolders({})->empty());
}

TEST_F(ModelRepositoryTest, ServesEverySubFolderInAlphabeticalOrder) {
  folder_.Write("pets/config.json", "{}");
  folder_.Write("birds/config.json", "{}");
  folder_.Write(".git/config.json", "{}");
  folder_.Write("README.md", "not a folder");
  const auto models = FindModelFolders({.model_repository = Path()});
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].name, "birds");
  EXPECT_EQ((*models)[0].version, "1");
  EXPECT_EQ((*models)[0].path, Path("birds"));
  EXPECT_EQ((*models)[1].name, "pets");
}

TEST_F(ModelRepositoryTest, ServesTheHighestNumericVersion) {
  folder_.Write("pets/9/config.json", "{}");
  folder_.Write("pets/10/config.json", "{}");
  folder_.Write("pets/old/config.json", "{}");
  const auto models = FindModelFolders({.models = {{.name = "p", .folder = Path("pets")}}});
  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_EQ((*models)[0].version, "10");
  EXPECT_EQ((*models)[0].path, Path("pets/10"));
}

TEST_F(ModelRepositoryTest, NamesTheFolderAndWhatItLacks) {
  EXPECT_THAT(ErrorOf({.models = {{.name = "a", .folder = Path("none")}}}),
              HasSubstr(Path("none")));
  EXPECT_THAT(ErrorOf({.model_repository = Path("none")}), HasSubstr(Path("none")));
  EXPECT_THAT(ErrorOf({.model_repository = Path()}), HasSubstr("has no sub-folders"));
  folder_.Write("empty/readme.txt", "");
  EXPECT_THAT(ErrorOf({.model_repository = Path()}),
              HasSubstr("neither config.json nor a numeric version folder"));
}

TEST_F(ModelRepositoryTest, RefusesBadAndDoubleNames) {
  folder_.Write("m/config.json", "{}");
  const std::string m = Path("m");
  EXPECT_THAT(ErrorOf({.models = {{.name = "a b", .folder = m}}}), HasSubstr("\"a b\""));
  EXPECT_THAT(ErrorOf({.models = {{.name = "a\"}\n", .folder = m}}}), HasSubstr("letters"));
  EXPECT_THAT(ErrorOf({.models = {{.name = "a", .folder = m}, {.name = "a", .folder = m}}}),
              HasSubstr("two models are named \"a\""));
  EXPECT_THAT(ErrorOf({.models = {{.name = "m", .folder = m}}, .model_repository = Path()}),
              HasSubstr("two models are named \"m\""));
}

}  // namespace
}  // namespace dla::server
