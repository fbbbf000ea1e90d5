#include "cli/photo_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/temp_dir.h"

namespace dla::cli {
namespace {

using ::dla::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Paths below `dir` without the way there.
std::vector<std::string> Found(const TempDir& dir, const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  for (const PhotoFile& photo : FindPhotos(paths)) {
    EXPECT_TRUE(photo.status.ok()) << photo.path << ": " << photo.status;
    result.push_back(photo.path.substr(dir.Path().size() + 1));
  }
  return result;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(FindPhotosTest, TakesPhotosOfAllFoldersBelowInOrder) {
  TempDir dir;
  for (const char* name :
       {"b/2.JPG", "b/1.jpeg", "c.png", "a.WebP", "b/x/y/z/3.jpg", "notes.txt", "d.gif", "jpg"}) {
    dir.Write(name, "x");
  }
  EXPECT_THAT(Found(dir, {dir.Path()}),
              ElementsAre("a.WebP", "b/1.jpeg", "b/2.JPG", "b/x/y/z/3.jpg", "c.png"));
}

TEST(FindPhotosTest, LeavesOutHiddenOnes) {
  TempDir dir;
  for (const char* name : {"a.jpg", "._a.jpg", ".cache/b.jpg", ".jpg"}) dir.Write(name, "x");
  EXPECT_THAT(Found(dir, {dir.Path()}), ElementsAre("a.jpg"));
}

TEST(FindPhotosTest, TakesNamedFilesWhateverTheirNamesAndInTheOrderGiven) {
  TempDir dir;
  dir.Write("z/photo", "x");
  dir.Write("a/1.jpg", "x");
  EXPECT_THAT(Found(dir, {dir.Path("z/photo"), dir.Path("a"), dir.Path("missing.jpg")}),
              ElementsAre("z/photo", "a/1.jpg", "missing.jpg"));
}

TEST(FindPhotosTest, DoesNotDoubleASlash) {
  TempDir dir;
  dir.Write("a/1.jpg", "x");
  EXPECT_THAT(Found(dir, {dir.Path("a/")}), ElementsAre("a/1.jpg"));
}

TEST(FindPhotosTest, EndsWhereLinksLoop) {
  TempDir dir;
  dir.Write("a/1.jpg", "x");
  std::filesystem::create_directory_symlink(dir.Path(), dir.Path("a/up"));
  std::filesystem::create_directory_symlink("self", dir.Path("self"));
  EXPECT_THAT(Found(dir, {dir.Path()}), ElementsAre("a/1.jpg"));
}

TEST(FindPhotosTest, FollowsLinksToFilesAndFolders) {
  TempDir dir;
  TempDir elsewhere;
  elsewhere.Write("1.jpg", "x");
  std::filesystem::create_directory_symlink(elsewhere.Path(), dir.Path("linked"));
  std::filesystem::create_symlink(elsewhere.Path("1.jpg"), dir.Path("2.jpg"));
  EXPECT_THAT(Found(dir, {dir.Path()}), ElementsAre("2.jpg", "linked/1.jpg"));
}

TEST(FindPhotosTest, ReportsALinkToNowhereThatIsNamedLikeAPhoto) {
  TempDir dir;
  std::filesystem::create_symlink("gone", dir.Path("a.jpg"));
  std::filesystem::create_symlink("gone", dir.Path("notes.txt"));
  const auto photos = FindPhotos({dir.Path()});
  ASSERT_EQ(photos.size(), 1u);
  EXPECT_EQ(photos[0].path, dir.Path("a.jpg"));
  EXPECT_EQ(photos[0].status.code(), absl::StatusCode::kNotFound);
}

TEST(FindPhotosTest, ReportsAFolderWithoutPhotos) {
  TempDir dir;
  dir.Write("notes.txt", "x");
  const auto photos = FindPhotos({dir.Path()});
  ASSERT_EQ(photos.size(), 1u);
  EXPECT_EQ(photos[0].path, dir.Path());
  EXPECT_THAT(Message(photos[0].status), HasSubstr("no .jpg, .jpeg, .png or .webp"));
  EXPECT_EQ(ReadPhoto(photos[0], 100).status(), photos[0].status);
}

TEST(FindPhotosTest, GoesOnAfterAFolderThatCannotBeRead) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  TempDir dir;
  dir.Write("a/1.jpg", "x");
  dir.Write("b/2.jpg", "x");
  chmod(dir.Path("a").c_str(), 0);
  const auto photos = FindPhotos({dir.Path()});
  chmod(dir.Path("a").c_str(), 0700);
  ASSERT_EQ(photos.size(), 2u);
  EXPECT_EQ(photos[0].status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(photos[1].status.ok());
}

TEST(FindPhotosTest, SkipsFoldersAndPipesThatAreNamedLikePhotos) {
  TempDir dir;
  dir.Write("folder.jpg/1.png", "x");
  ASSERT_EQ(mkfifo(dir.Path("pipe.jpg").c_str(), 0600), 0);
  EXPECT_THAT(Found(dir, {dir.Path()}), ElementsAre("folder.jpg/1.png"));
}

TEST(FindPhotosTest, KeepsTheNameOfStandardInput) {
  const auto photos = FindPhotos({"-"});
  ASSERT_EQ(photos.size(), 1u);
  EXPECT_EQ(photos[0].path, "-");
}

TEST(ReadPhotoTest, ReadsUpToTheLimit) {
  TempDir dir;
  const std::string bytes(200'000, '\xff');
  const PhotoFile photo = {dir.Write("a.jpg", bytes), absl::OkStatus()};
  EXPECT_EQ(*ReadPhoto(photo, bytes.size()), bytes);
  const absl::Status status = ReadPhoto(photo, bytes.size() - 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("200000 bytes, more than the 199999"));
}

TEST(ReadPhotoTest, ReadsAnEmptyFile) {
  TempDir dir;
  EXPECT_EQ(*ReadPhoto({dir.Write("a.jpg", ""), absl::OkStatus()}, 10), "");
}

TEST(ReadPhotoTest, StopsReadingWhereADeviceHasNoEnd) {
  EXPECT_EQ(ReadPhoto({"/dev/zero", absl::OkStatus()}, 100'000).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ReadPhotoTest, SaysWhyAFileCannotBeRead) {
  TempDir dir;
  const absl::Status missing = ReadPhoto({dir.Path("no.jpg"), absl::OkStatus()}, 10).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing), HasSubstr("No such file"));
  EXPECT_THAT(Message(ReadPhoto({dir.Path(), absl::OkStatus()}, 10).status()),
              HasSubstr("directory"));
}

}  // namespace
}  // namespace dla::cli
