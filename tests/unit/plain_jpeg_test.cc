#include "model/gpu/plain_jpeg.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/photo_surgery.h"

namespace dla::gpu {
namespace {

absl::StatusOr<JpegPhoto> Plan(absl::string_view bytes, const LoadImageOptions& options = {}) {
  return PlanJpeg(bytes, InputSpec(), options);
}

void ExpectRefused(absl::string_view bytes, absl::string_view reason,
                   const LoadImageOptions& options = {}) {
  const auto photo = Plan(bytes, options);
  EXPECT_EQ(photo.status().code(), absl::StatusCode::kUnimplemented) << reason;
  EXPECT_NE(photo.status().message().find(reason), absl::string_view::npos) << photo.status();
}

TEST(PlainJpegTest, TakesWhatCamerasWrite) {
  for (const char* name : {"baseline.jpg", "chroma_422.jpg", "chroma_444.jpg", "quality_10.jpg",
                           "restart_markers.jpg", "12_megapixels.jpg"}) {
    const std::string bytes = GoldenInput(name);
    const auto photo = Plan(bytes);
    ASSERT_TRUE(photo.ok()) << name << ": " << photo.status();
    EXPECT_EQ(photo->bytes, bytes);
    EXPECT_EQ(photo->orientation, 1);
    EXPECT_EQ(photo->plan.height, 224);
  }
  const auto photo = Plan(GoldenInput("baseline.jpg"));
  EXPECT_EQ(photo->height, 75);
  EXPECT_EQ(photo->width, 97);
}

TEST(PlainJpegTest, LeavesTheUnusualToTheProcessor) {
  ExpectRefused(GoldenInput("cmyk.jpg"), "not three channels");
  ExpectRefused(GoldenInput("grey.jpg"), "not three channels");
  ExpectRefused(GoldenInput("ycck.jpg"), "not three channels");
  ExpectRefused(GoldenInput("progressive.jpg"), "not baseline");
  ExpectRefused(GoldenInput("cmyk_progressive.jpg"), "not baseline");
  ExpectRefused(GoldenInput("stored_as_rgb.jpg"), "perhaps not YCbCr");
  ExpectRefused(GoldenInput("rgb.png"), "no start");
  ExpectRefused("", "no start");
  ExpectRefused(JpegWithSegment('\xcc', std::string(4, '\1')), "not baseline");  // arithmetic
}

TEST(PlainJpegTest, LeavesWhereJfifAndAdobeDisagreeToTheProcessor) {
  const std::string adobe = "Adobe" + std::string("\0\x64\0\0\0\0", 6);
  ExpectRefused(JpegWithSegment('\xee', adobe + '\0'), "perhaps not YCbCr");
  EXPECT_TRUE(Plan(JpegWithSegment('\xee', adobe + '\1')).ok());
}

TEST(PlainJpegTest, ReadsTheOrientationUnlessToldNotTo) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string bytes = GoldenInput("orientation_" + std::to_string(orientation) + ".jpg");
    const auto photo = Plan(bytes);
    ASSERT_TRUE(photo.ok()) << photo.status();
    EXPECT_EQ(photo->orientation, orientation);
    EXPECT_EQ(Plan(bytes, {.apply_exif_orientation = false})->orientation, 1);
  }
}

TEST(PlainJpegTest, RefusesWhatTheOptionsDo) {
  const std::string bytes = GoldenInput("baseline.jpg");
  EXPECT_TRUE(Plan(bytes, {.max_pixels = 97 * 75}).ok());
  ExpectRefused(bytes, "too large", {.max_pixels = 97 * 75 - 1});
  ExpectRefused(bytes, "too large", {.max_side = 96});
  ExpectRefused(JpegOfSize(8000, 2001), "too large");  // kMaxJpegPixels
  EXPECT_TRUE(Plan(JpegOfSize(8000, 2000)).ok());
  ExpectRefused(JpegOfSize(97, 0), "too large");
}

TEST(PlainJpegTest, EveryPrefixOfAPhotoIsRefused) {
  const std::string bytes = GoldenInput("orientation_6.jpg");
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy, so that a sanitizer sees what reads beyond it.
    EXPECT_FALSE(Plan(std::string(bytes.data(), size)).ok()) << size;
  }
}

TEST(PlainJpegTest, SurvivesEveryByteBeingWrong) {
  const std::string bytes = GoldenInput("orientation_6.jpg");
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const char value : {'\0', '\x7f', '\xff'}) {
      std::string wrong = bytes;
      wrong[at] = value;
      const auto photo = Plan(wrong);
      EXPECT_TRUE(photo.ok() || absl::IsUnimplemented(photo.status())) << photo.status();
    }
  }
}

TEST(PlainJpegTest, DropsWhatFollowsThePhoto) {
  const std::string bytes = GoldenInput("baseline.jpg");
  const std::string longer = bytes + "a film that a telephone appends";
  EXPECT_EQ(Plan(longer)->bytes.size(), bytes.size());
}

TEST(PlainJpegTest, RefusesASecondScan) {
  std::string bytes = GoldenInput("baseline.jpg");
  bytes.insert(bytes.size() - 2, std::string("\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0", 14));
  ExpectRefused(bytes, "more than one scan");
}

}  // namespace
}  // namespace dla::gpu
