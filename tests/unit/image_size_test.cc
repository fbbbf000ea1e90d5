// What ReadImageSize finds in a header, and that it is what DecodeImage finds there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "model/image_codec.h"
#include "tests/unit/photo_files.h"
#include "tests/unit/photo_surgery.h"

namespace dla {
namespace {

using ::testing::HasSubstr;

const char* const kPhotos[] = {
    "baseline.jpg",
    "progressive.jpg",
    "restart_markers.jpg",
    "cmyk.jpg",
    "grey.jpg",
    "cmyk_progressive.jpg",
    "orientation_6.jpg",
    "rgb.png",
    "grey_16bit.png",
    "palette_transparency.png",
    "interlaced.png",
    "orientation_6.png",
    "lossy.webp",
    "lossless.webp",
    "lossy_alpha.webp",
    "orientation_6.webp",
};

std::string Refusal(absl::string_view bytes) {
  const absl::Status status = ReadImageSize(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(ImageSizeTest, ReadsTheSizeAsTheHeaderDeclaresIt) {
  for (const char* name : kPhotos) {
    const absl::StatusOr<ImageSize> size = ReadImageSize(GoldenInput(name));
    ASSERT_TRUE(size.ok()) << name << ": " << size.status();
    EXPECT_EQ(size->width, 97) << name;
    EXPECT_EQ(size->height, 75) << name;
    EXPECT_EQ(size->pixels(), 97 * 75) << name;
  }
  EXPECT_EQ(ReadImageSize(PngOfSize(0x7fffffff, 0x7ffffffe))->pixels(),
            int64_t{0x7fffffff} * 0x7ffffffe);
  EXPECT_EQ(ReadImageSize(JpegOfSize(65'535, 1))->width, 65'535);
}

TEST(ImageSizeTest, RefusesInTheWordsOfTheDecoder) {
  for (const std::string& bytes :
       {std::string(), std::string("GIF89a"), std::string("hello"), std::string("\1\2\3\4\5"),
        PngOfSize(0, 75), JpegOfSize(97, 0), GoldenInput("lossy.webp").substr(0, 700),
        GoldenInput("baseline.jpg").substr(0, 100)}) {
    EXPECT_EQ(Refusal(bytes), DecodeImage(bytes, {}).status().message());
  }
}

TEST(ImageSizeTest, RefusesASideThatNoPngHas) {
  EXPECT_THAT(Refusal(PngOfSize(1, 4'000'000'000)), HasSubstr("1 x 4000000000"));
  EXPECT_THAT(Refusal(PngOfSize(0xffffffff, 0xffffffff)), HasSubstr("2147483647"));
}

// With the bytes in a block of their own, AddressSanitizer sees a read beyond them.
TEST(ImageSizeTest, NeverReadsBeyondABeginningOfAFile) {
  for (const char* name : kPhotos) {
    const std::string bytes = GoldenInput(name);
    const ImageSize whole = *ReadImageSize(bytes);
    bool found = false;
    for (size_t length = 0; length < std::min<size_t>(bytes.size(), 2000); ++length) {
      const std::vector<char> beginning(bytes.begin(), bytes.begin() + length);
      const absl::StatusOr<ImageSize> size =
          ReadImageSize(absl::string_view(beginning.data(), beginning.size()));
      EXPECT_FALSE(found && !size.ok()) << name << " at " << length << ": " << size.status();
      if (!size.ok()) continue;
      found = true;
      EXPECT_EQ(size->width, whole.width) << name << " at " << length;
      EXPECT_EQ(size->height, whole.height) << name << " at " << length;
    }
  }
}

// Whoever reckons with the size before a photo is decoded must not be told another one.
TEST(ImageSizeTest, AgreesWithTheDecoderOnEveryFileWithOneByteChanged) {
  DecodeOptions options;
  options.max_pixels = 50'000;
  options.apply_exif_orientation = false;
  for (const char* name : kPhotos) {
    const std::string bytes = GoldenInput(name);
    for (size_t at = 0; at < std::min<size_t>(bytes.size(), 300); ++at) {
      for (const char value : {char(bytes[at] ^ 1), char(~bytes[at]), '\xff', '\0'}) {
        std::string changed = bytes;
        changed[at] = value;
        const absl::StatusOr<DecodedImage> photo = DecodeImage(changed, options);
        if (!photo.ok()) continue;
        const absl::StatusOr<ImageSize> size = ReadImageSize(changed);
        ASSERT_TRUE(size.ok()) << name << " at " << at << ": " << size.status();
        EXPECT_EQ(size->height, photo->full_height) << name << " at " << at;
        EXPECT_EQ(size->width, photo->full_width) << name << " at " << at;
      }
    }
  }
}

TEST(ImageSizeTest, FindsTheFrameHeaderBehindWhatCamerasPutFirst) {
  std::string segments;
  for (int i = 0; i < 300; ++i) {
    segments += "\xff\xe2\xff\xff" + std::string(65'533, 'i');
  }
  segments += "\xff\xe1\xff\xff" + std::string(65'533, '\xff');
  segments += std::string("stray\xff\0bytes\xff\xff\xff", 15);
  std::string jpeg = GoldenInput("baseline.jpg");
  jpeg.insert(2, segments);
  const absl::StatusOr<ImageSize> size = ReadImageSize(jpeg);
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(size->width, 97);
}

TEST(ImageSizeTest, GivesUpOnAJpegThatHidesItsSize) {
  const std::string jpeg = GoldenInput("baseline.jpg");
  std::string empty_segments = jpeg;
  std::string segments;
  for (int i = 0; i < 1'000'000; ++i) segments += std::string("\xff\xfe\0\2", 4);
  empty_segments.insert(2, segments);
  EXPECT_THAT(Refusal(empty_segments), HasSubstr("10000 segments"));

  constexpr size_t kBehindJfif = 20;
  std::string stray = jpeg;
  stray.insert(kBehindJfif, std::string(2 << 20, 'x'));
  EXPECT_THAT(Refusal(stray), HasSubstr("65536 bytes between"));
  std::string stuffed = jpeg;
  stuffed.insert(kBehindJfif, std::string(2 << 20, '\xff'));
  EXPECT_THAT(Refusal(stuffed), HasSubstr("65536 bytes between"));
  std::string many_gaps = jpeg;
  std::string gaps;
  for (int i = 0; i < 4; ++i) gaps += std::string(20 << 10, 'x') + std::string("\xff\xfe\0\2", 4);
  many_gaps.insert(kBehindJfif, gaps);
  EXPECT_THAT(Refusal(many_gaps), HasSubstr("65536 bytes between"));
  for (const std::string& bytes : {empty_segments, stray, stuffed, many_gaps}) {
    EXPECT_EQ(DecodeImage(bytes, {}).status().message(), Refusal(bytes));
  }

  EXPECT_THAT(Refusal("\xff\xd8\xff\xd9"), HasSubstr("before the frame header"));
}

}  // namespace
}  // namespace dla
