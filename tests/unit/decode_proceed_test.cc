// How a caller ends a decode that it no longer wants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <webp/encode.h>

#include <random>
#include <string>

#include "model/image_codec.h"
#include "model/preprocess.h"
#include "tests/unit/photo_files.h"
#include "tests/unit/photo_surgery.h"

namespace dla {
namespace {

// Says no the Nth time it is asked.
struct StopAt {
  Proceed proceed() {
    return
        [this] { return ++asked == at ? absl::DeadlineExceededError("enough") : absl::OkStatus(); };
  }
  int at = 0;
  int asked = 0;
};

std::string NoisyWebp(int width, int height) {
  std::minstd_rand random(1);
  std::string pixels(width * height * 3, '\0');
  for (char& value : pixels) value = static_cast<char>(random() >> 7);
  uint8_t* encoded = nullptr;
  const size_t size = WebPEncodeRGB(reinterpret_cast<const uint8_t*>(pixels.data()), width, height,
                                    width * 3, 75, &encoded);
  std::string webp(reinterpret_cast<const char*>(encoded), size);
  WebPFree(encoded);
  return webp;
}

int TimesAsked(const std::string& bytes) {
  StopAt never;
  DecodeOptions options;
  options.proceed = never.proceed();
  const absl::StatusOr<DecodedImage> photo = DecodeImage(bytes, options);
  EXPECT_TRUE(photo.ok()) << photo.status();
  EXPECT_EQ(photo->image.pixels, DecodeImage(bytes, {})->image.pixels);
  return never.asked;
}

TEST(DecodeProceedTest, AsksBeforeTheFirstPixel) {
  for (const char* name : {"baseline.jpg", "rgb.png", "lossy.webp"}) {
    StopAt first = {.at = 1};
    DecodeOptions options;
    options.proceed = first.proceed();
    EXPECT_EQ(DecodeImage(GoldenInput(name), options).status(),
              absl::DeadlineExceededError("enough"))
        << name;
    EXPECT_EQ(first.asked, 1) << name;
  }
}

TEST(DecodeProceedTest, AsksEverySoManyPixels) {
  const int large = TimesAsked(GoldenInput("12_megapixels.jpg"));
  EXPECT_GE(large, 12'000'000 / 65'536 / 2);
  EXPECT_LE(large, 12'000'000 / 65'536 * 2);
  EXPECT_GE(TimesAsked(NoisyWebp(1500, 1000)), 50);
  EXPECT_GE(TimesAsked(BlackPng(2000, 1500)), 3'000'000 / 65'536 / 2);
}

// A scan reads all of a photo's coefficients, before the first row comes out.
TEST(DecodeProceedTest, AsksDuringTheScansOfAProgressiveJpeg) {
  std::string jpeg = GoldenInput("progressive.jpg");
  const size_t last_scan = jpeg.rfind("\xff\xda");
  const std::string scan = jpeg.substr(last_scan, jpeg.size() - 2 - last_scan);
  for (int i = 0; i < 80; ++i) jpeg.insert(last_scan, scan);
  EXPECT_GE(TimesAsked(jpeg), 80 * 97 * 75 / 65'536 / 2);
  EXPECT_LT(TimesAsked(GoldenInput("progressive.jpg")), 4);
}

TEST(DecodeProceedTest, EndsWithTheStatusWheneverItComes) {
  for (const std::string& bytes :
       {GoldenInput("12_megapixels.jpg"), BlackPng(2000, 1500), NoisyWebp(1500, 1000)}) {
    const absl::string_view name = absl::string_view(bytes).substr(0, 4);
    for (int at : {2, 3, 9}) {
      StopAt stop = {.at = at};
      const absl::StatusOr<Image> image = LoadImage(bytes, {}, {}, stop.proceed());
      EXPECT_EQ(image.status(), absl::DeadlineExceededError("enough")) << name;
      EXPECT_EQ(stop.asked, at) << name;
    }
  }
}

}  // namespace
}  // namespace dla
