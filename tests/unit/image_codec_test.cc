// What DecodeImage does with bytes that are not what they should be.
// What it makes of good photos is in preprocess_parity_test.cc.
#include "model/image_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/photo_files.h"
#include "tests/unit/photo_refusal.h"
#include "tests/unit/photo_surgery.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ImageCodecTest, RefusesNoBytes) {
  EXPECT_THAT(Refusal(""), AllOf(HasSubstr("no bytes"), HasSubstr("JPEG, PNG or WebP")));
}

TEST(ImageCodecTest, NamesWhatWasSentInstead) {
  using std::string;
  const std::pair<string, string> sent[] = {
      {"GIF89a\x01\x02", "a GIF"},
      {string("\0\0\0\x1c", 4) + "ftypheic", "HEIC"},
      {string("\0\0\0\x1c", 4) + "ftypavif", "AVIF"},
      {string("\0\0\0\x1c", 4) + "ftypisom", "MP4"},
      {"  \n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"},
      {"<?xml version=\"1.0\"?>\n<svg/>", "SVG"},
      {"<?xml version=\"1.0\"?>\n<note/>", "XML"},
      {"<!DOCTYPE html><html></html>", "HTML"},
      {"%PDF-1.7", "PDF"},
      {string("BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01", 19), "BMP"},
      {"BM is how this text begins", "text"},
      {string("II*\0\x08\0\0\0", 8), "TIFF"},
      {string("MM\0*\0\0\0\x08", 8), "TIFF"},
      {"PK\x03\x04", "ZIP"},
      {"{\"image\": 1}", "JSON"},
      {"hello", "got text"},
      {"/9j/4AAQSkZJRg", "base64"},
      {"data:image/png;base64,iVBOR", "data: URL"},
      {"https://example.org/dog.jpg", "URL"},
      {string("RIFF\x10\0\0\0AVI LIST", 16), "AVI"},
      {string("RIFF\x10\0\0\0WAVEfmt ", 16), "RIFF"},
      {"\x01\x02\x03\x04\x05", "01 02 03 04"},
      {"\x01", "begins with 01"},
  };
  for (const auto& [bytes, name] : sent) EXPECT_THAT(Refusal(bytes), HasSubstr(name)) << name;
}

TEST(ImageCodecTest, RefusesASizeOverTheLimitFromTheHeader) {
  EXPECT_THAT(Refusal(PngOfSize(60'000, 50'000)),
              AllOf(HasSubstr("60000 x 50000 is 3000000000"), HasSubstr("at most 100000000")));
  EXPECT_THAT(Refusal(PngOfSize(0x7fffffff, 0x7fffffff)), HasSubstr("2147483647 x 2147483647"));
  EXPECT_THAT(Refusal(JpegOfSize(65'500, 65'500)), HasSubstr("65500 x 65500"));
  EXPECT_THAT(Refusal(JpegOfSize(65'535, 65'535)), HasSubstr("65535 x 65535"));
}

TEST(ImageCodecTest, RefusesAPhotoWithoutPixels) {
  Refusal(PngOfSize(0, 75));
  Refusal(PngOfSize(97, 0));
  Refusal(JpegOfSize(0, 75));
  Refusal(JpegOfSize(97, 0));
}

TEST(ImageCodecTest, TakesExactlyMaxPixels) {
  for (const char* name : {"baseline.jpg", "rgb.png", "lossy.webp"}) {
    const std::string bytes = GoldenInput(name);
    DecodeOptions options;
    options.max_pixels = 97 * 75;
    EXPECT_TRUE(DecodeImage(bytes, options).ok()) << name;
    options.max_pixels = 97 * 75 - 1;
    EXPECT_THAT(Refusal(bytes, options), HasSubstr("97 x 75 is 7275 pixels, at most 7274"));
  }
}

// The pixels count that the header declares, not those that a reduced scale would give.
TEST(ImageCodecTest, LimitsTheFullSizeOfAPhotoThatIsDecodedAtReducedScale) {
  DecodeOptions options;
  options.min_short_side = 1;
  options.max_pixels = 12'000'000 - 1;
  EXPECT_THAT(Refusal(GoldenInput("12_megapixels.jpg"), options), HasSubstr("4000 x 3000"));
}

// Ends of a file in all places where it hurts: many in the headers, some in the pixels, all near
// the end.
std::vector<size_t> CutPoints(size_t size) {
  std::vector<size_t> points;
  for (size_t cut = 0; cut < size; cut += cut < 700 || cut + 64 > size ? 1 : 61) {
    points.push_back(cut);
  }
  return points;
}

TEST(ImageCodecTest, RefusesEveryBeginningOfAJpegOrWebp) {
  for (const char* name :
       {"baseline.jpg", "progressive.jpg", "restart_markers.jpg", "cmyk.jpg", "orientation_6.jpg",
        "lossy.webp", "lossless.webp", "lossy_alpha.webp", "orientation_6.webp"}) {
    const std::string bytes = GoldenInput(name);
    for (size_t cut : CutPoints(bytes.size())) {
      EXPECT_FALSE(DecodeImage(bytes.substr(0, cut), {}).ok()) << name << " cut at " << cut;
    }
    EXPECT_THAT(Refusal(bytes.substr(0, bytes.size() - 5)), HasSubstr("truncated")) << name;
  }
}

// Pillow takes a PNG whose pixels are complete, whatever is missing behind them.
TEST(ImageCodecTest, RefusesAPngThatEndsBeforeItsPixelsDo) {
  for (const char* name : {"rgb.png", "interlaced.png", "palette_transparency.png",
                           "grey_16bit.png", "interlaced_grey_16bit.png", "orientation_6.png"}) {
    const std::string bytes = GoldenInput(name);
    constexpr size_t kBehindThePixels = 4 + 12;  // their checksum; IEND
    for (size_t cut : CutPoints(bytes.size())) {
      const absl::StatusOr<DecodedImage> photo = DecodeImage(bytes.substr(0, cut), {});
      if (cut < bytes.size() - kBehindThePixels - 4) {  // less the checksum within the pixels
        EXPECT_FALSE(photo.ok()) << name << " cut at " << cut;
      } else if (photo.ok()) {
        EXPECT_EQ(photo->image.pixels, DecodeImage(bytes, {})->image.pixels)
            << name << " cut at " << cut;
      }
    }
    EXPECT_THAT(Refusal(bytes.substr(0, bytes.size() / 2)), HasSubstr("truncated")) << name;
  }
}

TEST(ImageCodecTest, SurvivesCorruption) {
  DecodeOptions options;
  options.max_pixels = 1'000'000;
  for (const char* name :
       {"baseline.jpg", "progressive.jpg", "cmyk_progressive.jpg", "orientation_6.jpg", "rgb.png",
        "palette_transparency.png", "interlaced.png", "grey_16bit.png", "orientation_6.png",
        "lossy.webp", "lossless.webp", "lossy_alpha.webp", "orientation_6.webp"}) {
    const std::string bytes = GoldenInput(name);
    std::mt19937 random(1);
    for (int round = 0; round < 200; ++round) {
      std::string corrupt = bytes;
      for (int flips = 1 + round % 3; flips > 0; --flips) {
        const size_t reach =
            round % 2 == 0 ? corrupt.size() : std::min<size_t>(700, corrupt.size());
        corrupt[random() % reach] ^= static_cast<char>(1 << random() % 8);
      }
      const absl::StatusOr<DecodedImage> photo = DecodeImage(corrupt, options);
      if (photo.ok()) {
        EXPECT_EQ(photo->image.pixels.size(), photo->image.height * photo->image.row_bytes())
            << name;
      } else {
        EXPECT_EQ(photo.status().code(), absl::StatusCode::kInvalidArgument) << photo.status();
      }
    }
  }
}

TEST(ImageCodecTest, RefusesAPngWithAWrongChecksum) {
  std::string png = GoldenInput("gamma_and_background.png");
  png[png.find("gAMA") + 8] ^= 1;  // the first byte of its checksum
  EXPECT_THAT(Refusal(png), HasSubstr("CRC"));
}

TEST(ImageCodecTest, RefusesAnAnimation) {
  EXPECT_THAT(Refusal(GoldenInput("animated.webp")), HasSubstr("animation"));
}

// As Pillow, browsers and viewers do; libjpeg only warns.
TEST(ImageCodecTest, OpensAJpegWithStrayBytes) {
  const std::string jpeg = GoldenInput("baseline.jpg");
  const Image photo = DecodeImage(jpeg, {})->image;
  std::string between_segments = jpeg;
  between_segments.insert(20, "stray");  // behind JFIF's segment
  for (const std::string& bytes : {between_segments, jpeg + "stray bytes behind the end"}) {
    const absl::StatusOr<DecodedImage> same = DecodeImage(bytes, {});
    ASSERT_TRUE(same.ok()) << same.status();
    EXPECT_EQ(same->image.pixels, photo.pixels);
  }
}

TEST(ImageCodecTest, TakesAPhotoWithADamagedExifBlockAsUpright) {
  const std::string exif = std::string("Exif\0\0", 6);
  const std::string tiff_big = std::string("MM\0*\0\0\0\x08", 8);
  const std::string tiff_little = std::string("II*\0\x08\0\0\0", 8);
  const std::string entry_count = std::string("\0\x01", 2);
  const std::string orientation = std::string("\x01\x12\0\x03\0\0\0\x01", 8);
  const std::string blocks[] = {
      exif,
      exif + "garbage",
      exif + std::string(60'000, '\xff'),
      exif + tiff_big,
      exif + tiff_little + "\xff\xff",              // 65535 entries, none there
      exif + tiff_big + entry_count + orientation,  // cut off
      exif + tiff_big + entry_count + orientation + std::string("\0\x63\0\0", 4),  // 99
      exif + std::string("MM\0*\xff\xff\xff\xff", 8),           // directory out of range
      exif + std::string("MM\0*\0\0\0\x08\0\0\0\0\0\x08", 14),  // directory that follows itself
  };
  const Image photo = DecodeImage(GoldenInput("baseline.jpg"), {})->image;
  for (const std::string& block : blocks) {
    const absl::StatusOr<DecodedImage> same = DecodeImage(JpegWithSegment('\xe1', block), {});
    ASSERT_TRUE(same.ok()) << same.status();
    EXPECT_EQ(same->image.width, photo.width);
    EXPECT_EQ(same->image.pixels, photo.pixels);
  }
  // The same frame around a good value turns the photo, so it is the damage that is pinned above.
  const std::string good =
      exif + tiff_big + entry_count + orientation + std::string("\0\x06\0\0\0\0\0\0", 8);
  EXPECT_EQ(DecodeImage(JpegWithSegment('\xe1', good), {})->image.width, photo.height);
  const std::string as_long = exif + tiff_big + entry_count +
                              std::string("\x01\x12\0\x04\0\0\0\x01", 8) +
                              std::string("\0\0\0\x06\0\0\0\0", 8);
  EXPECT_EQ(DecodeImage(JpegWithSegment('\xe1', as_long), {})->image.width, photo.height);
}

// 97 x 75 at 1/8 is 12.125 x 9.375, decoded as 13 x 10.
TEST(ImageCodecTest, TellsWhereThePhotoLiesInAReducedOne) {
  DecodeOptions options;
  options.min_short_side = 9;
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const absl::StatusOr<DecodedImage> photo =
        DecodeImage(GoldenInput("orientation_" + std::to_string(orientation) + ".jpg"), options);
    ASSERT_TRUE(photo.ok()) << photo.status();
    const bool turned = orientation >= 5;
    EXPECT_EQ(photo->image.width, turned ? 10 : 13);
    EXPECT_EQ(photo->image.height, turned ? 13 : 10);
    EXPECT_EQ(photo->full_width, turned ? 75 : 97);
    EXPECT_EQ(photo->full_height, turned ? 97 : 75);
    EXPECT_EQ(photo->region.width, turned ? 9.375 : 12.125);
    EXPECT_EQ(photo->region.height, turned ? 12.125 : 9.375);
    const bool starts_at_the_right =
        orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool starts_at_the_bottom =
        orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    EXPECT_EQ(photo->region.left,
              starts_at_the_right ? photo->image.width - photo->region.width : 0);
    EXPECT_EQ(photo->region.top,
              starts_at_the_bottom ? photo->image.height - photo->region.height : 0);
  }
}

TEST(ImageCodecTest, LeavesThePhotoAsItLiesWhenOrientationIsSwitchedOff) {
  DecodeOptions options;
  options.apply_exif_orientation = false;
  for (const char* name : {"orientation_6.jpg", "orientation_6.png", "orientation_6.webp"}) {
    EXPECT_EQ(DecodeImage(GoldenInput(name), {})->image.width, 75) << name;
    EXPECT_EQ(DecodeImage(GoldenInput(name), options)->image.width, 97) << name;
  }
}

TEST(ImageCodecTest, ReadsAnOrientationThatStandsBehindThePixels) {
  const std::string tiff =
      std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
  std::string png = GoldenInput("rgb.png");
  png.insert(png.size() - 12, PngChunk("eXIf", tiff));
  EXPECT_EQ(DecodeImage(png, {})->image.width, 75);
}

// 800 kB that would inflate to 790 MB: libpng keeps texts of up to 8 MB, a thousand of them.
TEST(ImageCodecTest, DoesNotInflateTheTextsOfAPng) {
  const std::string chunk =
      PngChunk("zTXt", std::string("k\0\0", 3) + Deflate(std::string(7'900'000, 'a')));
  std::string texts;
  for (int i = 0; i < 100; ++i) texts += chunk;
  std::string png = GoldenInput("rgb.png");
  png.insert(33, texts);  // behind IHDR

  const auto peak_kilobytes = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak_kilobytes();
  const absl::StatusOr<DecodedImage> photo = DecodeImage(png, {});
  ASSERT_TRUE(photo.ok()) << photo.status();
  EXPECT_LT(peak_kilobytes() - before, 100'000);
}

}  // namespace
}  // namespace dla
