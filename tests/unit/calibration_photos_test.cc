#include "server/calibration_photos.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(CalibrationPhotosTest, TakesTheFolderCalibrationAndThoseBelow) {
  const dla::testing::TempDir model;
  model.Write("calibration/b.jpg", "two");
  model.Write("calibration/a/x.png", "one");
  model.Write("calibration/notes.txt", "no photo");
  model.Write("selftest/selftest.json", R"({"photos": [{"file": "s.jpg", "top1": 0}]})");
  model.Write("selftest/s.jpg", "of the self-test");
  EXPECT_THAT(CalibrationPhotos(model.Path()).value(), ElementsAre("one", "two"));
}

TEST(CalibrationPhotosTest, TakesTheSelfTestsWhereThereAreNoOthers) {
  const dla::testing::TempDir model;
  model.Write("selftest/selftest.json", R"({"photos": [{"file": "s.jpg", "top1": 0}]})");
  model.Write("selftest/s.jpg", "of the self-test");
  EXPECT_THAT(CalibrationPhotos(model.Path()).value(), ElementsAre("of the self-test"));
}

TEST(CalibrationPhotosTest, HasNoneWhereThereIsNeither) {
  const dla::testing::TempDir model;
  EXPECT_THAT(CalibrationPhotos(model.Path()).value(), IsEmpty());
}

TEST(CalibrationPhotosTest, TakesSomeOfManyFromAllOfThem) {
  const dla::testing::TempDir model;
  for (int i = 100; i < 300; ++i) {
    model.Write(absl::StrCat("calibration/", i, ".jpg"), absl::StrCat(i));
  }
  const auto photos = CalibrationPhotos(model.Path());
  ASSERT_TRUE(photos.ok()) << photos.status();
  EXPECT_THAT(*photos, SizeIs(64));
  EXPECT_EQ(photos->front(), "100");
  EXPECT_GT(photos->back(), "290");
}

TEST(CalibrationPhotosTest, NamesAPhotoThatCannotBeRead) {
  const dla::testing::TempDir model;
  model.Write("calibration/a.jpg", "one");
  std::filesystem::create_symlink("nowhere", model.Path("calibration/b.jpg"));
  EXPECT_THAT(std::string(CalibrationPhotos(model.Path()).status().message()),
              HasSubstr("calibration/b.jpg"));
}

TEST(CalibrationPhotosTest, SaysThatTheFolderIsEmpty) {
  const dla::testing::TempDir model;
  std::filesystem::create_directories(model.Path("calibration"));
  EXPECT_THAT(std::string(CalibrationPhotos(model.Path()).status().message()),
              HasSubstr("no .jpg, .jpeg, .png or .webp file"));
}

}  // namespace
}  // namespace dla::server
