// Files made to hurt a decoder: each is refused or decoded, soon and in little memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/image_codec.h"
#include "model/preprocess.h"
#include "tests/support/png_checksums.h"
#include "tests/unit/photo_files.h"
#include "tests/unit/photo_refusal.h"
#include "tests/unit/photo_surgery.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The seeds of the fuzzer: small photos of every kind.
std::map<std::string, std::string> SmallPhotos() {
  std::map<std::string, std::string> photos;
  for (const auto& file : std::filesystem::directory_iterator(DLA_FUZZ_SEEDS "/image_fuzz")) {
    photos[file.path().filename()] = ReadFile(file.path());
  }
  EXPECT_GE(photos.size(), 25);
  return photos;
}

// Decodes both ways, or refuses; anything else than that ends the process.
void Decode(const std::string& bytes) {
  InputSpec spec;
  spec.height = spec.width = 8;
  LoadImageOptions options;
  options.max_pixels = 10'000;
  const absl::StatusOr<Image> image = LoadImage(bytes, spec, options);
  if (image.ok()) {
    EXPECT_EQ(image->pixels.size(), 8 * 8 * 3);
  } else {
    EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument) << image.status();
  }
}

void DecodeWithAndWithoutRepair(const std::string& bytes) {
  Decode(bytes);
  std::string repaired = bytes;
  RepairPngChecksums(reinterpret_cast<uint8_t*>(repaired.data()), repaired.size());
  Decode(repaired);
}

long PeakKilobytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// How often a decode asks whether to go on tells how much it does.
int TimesAsked(const std::string& bytes) {
  int asked = 0;
  DecodeOptions options;
  options.proceed = [&asked] {
    ++asked;
    return absl::OkStatus();
  };
  DecodeImage(bytes, options).IgnoreError();
  return asked;
}

std::string JpegOfScans(int extra) {
  const std::string jpeg = GoldenInput("progressive.jpg");
  const size_t last_scan = jpeg.rfind("\xff\xda");
  const std::string scan = jpeg.substr(last_scan, jpeg.size() - 2 - last_scan);
  std::string bomb = jpeg.substr(0, last_scan);
  for (int i = 0; i < extra; ++i) bomb += scan;
  return bomb + "\xff\xd9";
}

TEST(HostilePhotoTest, RefusesMoreScansThanTheLimit) {
  EXPECT_THAT(Refusal(JpegOfScans(200)), AllOf(HasSubstr("101 scans"), HasSubstr("at most 100")));
  EXPECT_LT(TimesAsked(JpegOfScans(10'000)), 100);
  DecodeOptions options;
  options.max_jpeg_scans = 5;
  EXPECT_THAT(Refusal(GoldenInput("progressive.jpg"), options), HasSubstr("at most 5"));
  EXPECT_TRUE(DecodeImage(GoldenInput("baseline.jpg"), options).ok());
}

TEST(HostilePhotoTest, RefusesASideLongerThanTheLimit) {
  EXPECT_THAT(Refusal(PngOfSize(1, 70'000)),
              AllOf(HasSubstr("1 x 70000"), HasSubstr("at most 65535")));
  EXPECT_THAT(Refusal(PngOfSize(1, 4'000'000'000)), HasSubstr("4000000000"));
  DecodeOptions options;
  options.max_side = 97;
  for (const char* name : {"baseline.jpg", "rgb.png", "lossy.webp"}) {
    EXPECT_TRUE(DecodeImage(GoldenInput(name), options).ok()) << name;
  }
  options.max_side = 96;
  for (const char* name : {"baseline.jpg", "rgb.png", "lossy.webp"}) {
    EXPECT_THAT(Refusal(GoldenInput(name), options),
                AllOf(HasSubstr("a side of 97"), HasSubstr("at most 96")));
  }
}

TEST(HostilePhotoTest, HandsItsLimitsOverWhenLoading) {
  LoadImageOptions options;
  options.max_side = 96;
  EXPECT_THAT(LoadImage(GoldenInput("baseline.jpg"), {}, options).status().message(),
              HasSubstr("at most 96"));
  options = {};
  options.max_jpeg_scans = 1;
  EXPECT_THAT(LoadImage(GoldenInput("progressive.jpg"), {}, options).status().message(),
              HasSubstr("scans"));
}

// libpng would inflate all of it, were it a thousand times as long, only to warn of it.
TEST(HostilePhotoTest, LeavesAloneWhatInflatesBehindTheLastRowOfAPng) {
  std::minstd_rand random(1);
  std::string rows(1'000'000, '\0');
  for (size_t i = 4; i < rows.size(); ++i) rows[i] = static_cast<char>(random() >> 7);
  const std::string png = PngOfRows(1, 1, Deflate(rows));
  EXPECT_LT(TimesAsked(png), 40);  // all of it would be over 200
  const absl::StatusOr<DecodedImage> photo = DecodeImage(png, {});
  ASSERT_TRUE(photo.ok()) << photo.status();
  EXPECT_EQ(photo->image.pixels, Pixels(3, 0));

  DecodeOptions options;
  int left = 3;
  options.proceed = [&left] {
    return --left > 0 ? absl::OkStatus() : absl::CancelledError("enough");
  };
  EXPECT_EQ(DecodeImage(png, options).status().code(), absl::StatusCode::kCancelled);
}

// Colour profiles, texts and suggested palettes are passed over, whatever they inflate to.
TEST(HostilePhotoTest, PassesOverWhatAPngHoldsBesidesPixels) {
  const std::string bomb = Deflate(std::string(8'000'000, 'a'));
  std::string png = GoldenInput("rgb.png");
  std::string chunks = PngChunk("iCCP", std::string("name\0\0", 6) + bomb) +
                       PngChunk("iTXt", std::string("key\0\1\0\0\0", 8) + bomb) +
                       PngChunk("tEXt", std::string("key\0", 4) + std::string(8'000'000, 't'));
  for (int i = 0; i < 2000; ++i) {
    chunks += PngChunk("sPLT", "s" + std::to_string(i) + std::string("\0\x08", 2));
  }
  png.insert(33, chunks);  // behind IHDR
  const long before = PeakKilobytes();
  const absl::StatusOr<DecodedImage> photo = DecodeImage(png, {});
  ASSERT_TRUE(photo.ok()) << photo.status();
  EXPECT_EQ(photo->image.pixels, DecodeImage(GoldenInput("rgb.png"), {})->image.pixels);
  EXPECT_LT(PeakKilobytes() - before, 20'000);
}

// libpng would allocate the two gigabytes that the chunk claims before it looks for them.
TEST(HostilePhotoTest, AllocatesNothingForAnExifBlockThatIsNotThere) {
  std::string png = GoldenInput("rgb.png");
  png.insert(33, BigEndian(0x7ffffff0, 4) + "eXIf" + "MM");
  EXPECT_THAT(Refusal(png), HasSubstr("truncated"));
  png = GoldenInput("rgb.png") + BigEndian(0x7ffffff0, 4) + "eXIf" + "MM";
  EXPECT_TRUE(DecodeImage(png, {}).ok());
}

TEST(HostilePhotoTest, TakesPaletteIndicesBeyondThePaletteForBlack) {
  const std::string png =
      "\x89PNG\r\n\x1a\n" +
      PngChunk("IHDR", BigEndian(4, 4) + BigEndian(1, 4) + std::string("\x08\3\0\0\0", 5)) +
      PngChunk("PLTE", "\x0a\x0b\x0c\x14\x15\x16") +
      PngChunk("IDAT", Deflate(std::string("\0\1\2\x80\xff", 5))) + PngChunk("IEND", "");
  const absl::StatusOr<DecodedImage> photo = DecodeImage(png, {});
  ASSERT_TRUE(photo.ok()) << photo.status();
  EXPECT_EQ(photo->image.pixels, (Pixels{20, 21, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

// Directories that follow, hold or overlap themselves, and counts that no block can hold.
std::vector<std::string> ExifLoops() {
  const std::string head("MM\0*\0\0\0\x08", 8);
  const auto entry = [](uint32_t tag, uint32_t type, uint32_t count, uint32_t value) {
    return BigEndian(tag, 2) + BigEndian(type, 2) + BigEndian(count, 4) + BigEndian(value, 4);
  };
  const auto directory = [](const std::vector<std::string>& entries, uint32_t next) {
    std::string text = BigEndian(entries.size(), 2);
    for (const std::string& each : entries) text += each;
    return text + BigEndian(next, 4);
  };
  std::vector<std::string> blocks = {
      head + directory({}, 8),
      head + directory({entry(0x8769, 4, 1, 8)}, 8),
      head + directory({entry(0x8769, 4, 1, 26)}, 26) + directory({entry(0x8825, 4, 1, 8)}, 8),
      head + directory({entry(0xa005, 4, 1, 8), entry(0x8825, 4, 1, 8)}, 0),
      head + directory({entry(0x927c, 7, 0xffffffff, 0)}, 0),
      head + directory({entry(0x0112, 3, 0xffffffff, 8)}, 0),
      head + directory({entry(0x010f, 2, 6, 38), entry(0x927c, 7, 40, 8)}, 0) +
          std::string("Canon\0", 6),
      head + directory({entry(0x0201, 4, 1, 0), entry(0x0202, 4, 1, 0xffffffff)}, 14),
  };
  std::vector<std::string> many(5000, entry(0x8769, 4, 1, 8));
  blocks.push_back(head + directory(many, 8));
  std::string chain = head;
  for (uint32_t i = 0; i < 5000; ++i) chain += directory({}, chain.size() + 6);
  blocks.push_back(chain);
  return blocks;
}

TEST(HostilePhotoTest, ComesOutOfExifBlocksThatLoop) {
  for (const std::string& block : ExifLoops()) {
    const std::string jpeg = JpegWithSegment('\xe1', std::string("Exif\0\0", 6) + block);
    std::string png = GoldenInput("rgb.png");
    png.insert(33, PngChunk("eXIf", block));
    for (const std::string& bytes : {jpeg, png}) {
      const absl::StatusOr<DecodedImage> photo = DecodeImage(bytes, {});
      ASSERT_TRUE(photo.ok()) << photo.status();
      EXPECT_EQ(photo->image.width, 97);
    }
  }
}

TEST(HostilePhotoTest, SurvivesEveryBeginningOfASmallPhoto) {
  for (const auto& [name, bytes] : SmallPhotos()) {
    SCOPED_TRACE(name);
    for (size_t length = 0; length < bytes.size(); ++length) Decode(bytes.substr(0, length));
  }
}

TEST(HostilePhotoTest, SurvivesEveryByteOfASmallPhotoChanged) {
  for (const auto& [name, bytes] : SmallPhotos()) {
    SCOPED_TRACE(name);
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (const int flip : {0xff, 0x80, 0x01}) {
        std::string changed = bytes;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        DecodeWithAndWithoutRepair(changed);
      }
    }
  }
}

// Catches what the process writes to standard error, by whatever way.
class CaughtStderr {
 public:
  CaughtStderr() : file_(std::tmpfile()), saved_(dup(STDERR_FILENO)) {
    std::fflush(stderr);
    dup2(fileno(file_), STDERR_FILENO);
  }
  ~CaughtStderr() {
    Restore();
    std::fclose(file_);
  }

  std::string Text() {
    Restore();
    std::string text(lseek(fileno(file_), 0, SEEK_END), '\0');
    EXPECT_EQ(pread(fileno(file_), text.data(), text.size(), 0), text.size());
    return text;
  }

 private:
  void Restore() {
    if (saved_ < 0) return;
    std::fflush(stderr);
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    saved_ = -1;
  }

  std::FILE* const file_;
  int saved_;
};

TEST(HostilePhotoTest, WritesNothingToStandardError) {
  CaughtStderr caught;
  std::string damaged_profile = GoldenInput("rgb.png");
  damaged_profile.insert(33, PngChunk("iCCP", "no profile") + PngChunk("gAMA", "x"));
  Decode(damaged_profile);
  Decode(JpegOfScans(200));
  Decode(PngOfSize(1, 0xffffffff));
  for (const std::string& block : ExifLoops()) {
    Decode(JpegWithSegment('\xe1', std::string("Exif\0\0", 6) + block));
  }
  for (const auto& [name, bytes] : SmallPhotos()) {
    for (size_t at = 0; at < bytes.size(); at += 17) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ 0x41);
      DecodeWithAndWithoutRepair(changed);
      Decode(bytes.substr(0, at));
    }
  }
  EXPECT_EQ(caught.Text(), "");

  CaughtStderr control;
  std::fputs("seen", stderr);
  EXPECT_EQ(control.Text(), "seen");
}

}  // namespace
}  // namespace dla
