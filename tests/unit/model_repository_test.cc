#include "server/model_repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::HasSubstr;

// The version of each model that is served where no label names another.
absl::StatusOr<std::vector<ModelFolder>> FindModelFolders(const ServerConfig& config) {
  const auto sources = FindModelSources(config);
  if (!sources.ok()) return sources.status();
  std::vector<ModelFolder> folders;
  for (const ModelSource& source : *sources) {
    const auto versions = FindModelVersions(source);
    if (!versions.ok()) return versions.status();
    folders.push_back(versions->folders.back());
  }
  return folders;
}

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

TEST_F(ModelRepositoryTest, ServesTheEmbeddedModelWhenNothingIsNamed) {
  const auto models = FindModelFolders({});
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 1u);
  EXPECT_EQ((*models)[0].name, "flowers5");
  EXPECT_EQ((*models)[0].path, "");
}

TEST_F(ModelRepositoryTest, ServesLabelledVersionsBesideTheHighest) {
  for (const char* version : {"1", "02", "9", "10"}) {
    folder_.Write(std::string("pets/") + version + "/config.json", "{}");
  }
  const ModelSource pets{.name = "pets", .folder = Path("pets")};
  const auto versions = FindModelVersions(pets, {{"stable", "2"}, {"canary", "10"}});
  ASSERT_TRUE(versions.ok()) << versions.status();
  ASSERT_EQ(versions->folders.size(), 2u);
  EXPECT_EQ(versions->folders[0].version, "02");
  EXPECT_EQ(versions->folders[1].version, "10");
  EXPECT_EQ(versions->labels.at("stable"), "02");
  EXPECT_THAT(std::string(FindModelVersions(pets, {{"canary", "3"}}).status().message()),
              HasSubstr("no version 3 for label \"canary\"; it has 1, 02, 9, 10"));
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
