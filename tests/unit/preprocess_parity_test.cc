// Photos of every kind against timm's eval transform and Pillow's decoders.
// tests/golden/make_preprocess_golden.py makes the files and says what each case is.
#include <gtest/gtest.h>
#include <webp/decode.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "model/preprocess.h"
#include "tests/unit/photo_files.h"

namespace dla {
namespace {

struct Case {
  std::string name;
  std::string input;
  int decoded_width = 0;
  int decoded_height = 0;
  unsigned long decoded_crc32 = 0;
  InputSpec spec;
  bool exif = false;
};

void PrintTo(const Case& test_case, std::ostream* out) { *out << test_case.input; }

Interpolation ParseInterpolation(const std::string& name) {
  if (name == "nearest") return Interpolation::kNearest;
  return name == "bicubic" ? Interpolation::kBicubic : Interpolation::kBilinear;
}

CropMode ParseCropMode(const std::string& name) {
  if (name == "squash") return CropMode::kSquash;
  return name == "border" ? CropMode::kBorder : CropMode::kCenter;
}

std::vector<Case> ReadCases() {
  std::vector<Case> cases;
  std::ifstream file(DLA_TEST_GOLDEN "/preprocess/cases.tsv");
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    std::istringstream fields(line);
    Case test_case;
    std::string interpolation, crop_mode;
    fields >> test_case.name >> test_case.input >> test_case.decoded_width >>
        test_case.decoded_height >> std::hex >> test_case.decoded_crc32 >> std::dec >>
        test_case.spec.height >> test_case.spec.width >> test_case.spec.crop_pct >> interpolation >>
        crop_mode >> test_case.exif;
    EXPECT_FALSE(fields.fail()) << line;
    test_case.spec.interpolation = ParseInterpolation(interpolation);
    test_case.spec.crop_mode = ParseCropMode(crop_mode);
    cases.push_back(test_case);
  }
  return cases;
}

std::string InputBytes(const Case& test_case) {
  return ReadFile(DLA_TEST_GOLDEN "/../" + test_case.input);
}

// Read by libwebp alone, so that our own decoder does not vouch for itself.
Image ReadExpected(const Case& test_case) {
  const std::string bytes =
      ReadFile(DLA_TEST_GOLDEN "/preprocess/expected/" + test_case.name + ".webp");
  Image image;
  const std::unique_ptr<uint8_t, void (*)(void*)> pixels(
      WebPDecodeRGB(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), &image.width,
                    &image.height),
      WebPFree);
  if (pixels == nullptr) return image;
  image.pixels.assign(pixels.get(), pixels.get() + image.height * image.row_bytes());
  return image;
}

struct Difference {
  double mean = 0;
  int max = 0;
};

Difference Compare(const Image& a, const Image& b) {
  Difference difference;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    const int apart = std::abs(a.pixels[i] - b.pixels[i]);
    difference.mean += apart;
    difference.max = std::max(difference.max, apart);
  }
  difference.mean /= static_cast<double>(a.pixels.size());
  return difference;
}

class PreprocessParityTest : public ::testing::TestWithParam<Case> {};

TEST_P(PreprocessParityTest, DecodesToPillowsPixels) {
  DecodeOptions options;
  options.apply_exif_orientation = GetParam().exif;
  const absl::StatusOr<DecodedImage> photo = DecodeImage(InputBytes(GetParam()), options);
  ASSERT_TRUE(photo.ok()) << photo.status();
  EXPECT_EQ(photo->image.width, GetParam().decoded_width);
  EXPECT_EQ(photo->image.height, GetParam().decoded_height);
  EXPECT_EQ(crc32(0, photo->image.pixels.data(), photo->image.pixels.size()),
            GetParam().decoded_crc32);
}

TEST_P(PreprocessParityTest, PreparesTimmsPixels) {
  LoadImageOptions options;
  options.apply_exif_orientation = GetParam().exif;
  options.reduced_scale_decode = false;
  const absl::StatusOr<Image> prepared =
      LoadImage(InputBytes(GetParam()), GetParam().spec, options);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const Image expected = ReadExpected(GetParam());
  ASSERT_EQ(prepared->height, expected.height);
  ASSERT_EQ(prepared->width, expected.width);
  const Difference difference = Compare(*prepared, expected);
  std::cout << "difference from timm: mean " << difference.mean << ", max " << difference.max
            << std::endl;
  EXPECT_EQ(difference.max, 0);
}

INSTANTIATE_TEST_SUITE_P(, PreprocessParityTest, ::testing::ValuesIn(ReadCases()),
                         [](const auto& instance) { return instance.param.name; });

// How far the pixels of a reduced-scale decode may be from timm's: mean of the absolute
// differences.
constexpr double kReducedScaleMean = 1;

Difference ReducedScaleDifference(const std::string& bytes, const InputSpec& spec) {
  LoadImageOptions options;
  options.reduced_scale_decode = false;
  const absl::StatusOr<Image> full = LoadImage(bytes, spec, options);
  options.reduced_scale_decode = true;
  const absl::StatusOr<Image> reduced = LoadImage(bytes, spec, options);
  EXPECT_TRUE(full.ok() && reduced.ok());
  const Difference difference = Compare(*full, *reduced);
  std::cout << "reduced-scale decode: mean " << difference.mean << ", max " << difference.max
            << std::endl;
  return difference;
}

TEST(ReducedScaleDecodeTest, StaysCloseForALargePhoto) {
  const Difference difference =
      ReducedScaleDifference(GoldenInput("12_megapixels.jpg"), InputSpec());
  EXPECT_GT(difference.max, 0) << "the photo was decoded at full scale";
  EXPECT_LT(difference.mean, kReducedScaleMean);
}

// 640 x 231 is decoded as 320 x 116, which is half a pixel more than the photo. Taken for the photo
// itself, it would be resized and cropped as one of another shape.
TEST(ReducedScaleDecodeTest, StaysCloseForASizeThatTheScaleDoesNotDivide) {
  InputSpec spec;
  spec.height = spec.width = 46;
  const Difference difference = ReducedScaleDifference(
      ReadFile(DLA_TEST_DATA "/photos_parity/4694730335_2553e77aa5_z.jpg"), spec);
  EXPECT_GT(difference.max, 0) << "the photo was decoded at full scale";
  EXPECT_LT(difference.mean, kReducedScaleMean);
}

TEST(ReducedScaleDecodeTest, IsNotUsedForNearest) {
  InputSpec spec;
  spec.interpolation = Interpolation::kNearest;
  EXPECT_EQ(ReducedScaleDifference(GoldenInput("12_megapixels.jpg"), spec).max, 0);
}

// The short side of the photo is 3000.
TEST(ReducedScaleDecodeTest, KeepsTheShortSideThatWasAskedFor) {
  const std::string bytes = GoldenInput("12_megapixels.jpg");
  const auto height = [&](int min_short_side) {
    DecodeOptions options;
    options.min_short_side = min_short_side;
    return DecodeImage(bytes, options)->image.height;
  };
  EXPECT_EQ(height(1), 375);
  EXPECT_EQ(height(375), 375);
  EXPECT_EQ(height(376), 750);
  EXPECT_EQ(height(750), 750);
  EXPECT_EQ(height(751), 1500);
  EXPECT_EQ(height(1501), 3000);
  EXPECT_EQ(height(4000), 3000);
  EXPECT_EQ(height(0), 3000);
}

}  // namespace
}  // namespace dla
