#include "model/preprocess.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace dla {
namespace {

Image Uniform(int height, int width, uint8_t level) {
  Image image;
  image.height = height;
  image.width = width;
  image.pixels.assign(height * image.row_bytes(), level);
  return image;
}

// The whole resized photo would have 256 x 25,600,000 pixels. The expected values are Pillow's at
// the crop of a 1 x 1000 photo, where its two middle pixels are 10 and 200.
TEST(PreprocessTest, ResizesOnlyWhatTheCropShowsOfAnExtremeShape) {
  struct {
    Interpolation interpolation;
    int first;
    int last;
  } constexpr kExpected[] = {{Interpolation::kNearest, 10, 200},
                             {Interpolation::kBilinear, 22, 188},
                             {Interpolation::kBicubic, 17, 193}};
  for (const auto& expected : kExpected) {
    for (bool tall : {true, false}) {
      Image photo = tall ? Uniform(100'000, 1, 10) : Uniform(1, 100'000, 10);
      std::fill(photo.pixels.begin() + 3 * 50'000, photo.pixels.end(), 200);
      InputSpec spec;
      spec.interpolation = expected.interpolation;
      const absl::StatusOr<Image> cropped = ResizeAndCrop(photo, spec);
      ASSERT_TRUE(cropped.ok()) << cropped.status();
      EXPECT_EQ(cropped->pixels.size(), 224u * 224 * 3);
      EXPECT_EQ(cropped->pixels.front(), expected.first);
      EXPECT_EQ(cropped->pixels.back(), expected.last);
    }
  }
}

TEST(PreprocessTest, FillsTheBorderWithTheMean) {
  InputSpec spec;
  spec.height = 8;
  spec.width = 16;
  spec.crop_pct = 1;
  spec.crop_mode = CropMode::kBorder;
  spec.mean = {0, 0.5, 1};
  const absl::StatusOr<Image> padded = ResizeAndCrop(Uniform(8, 4, 100), spec);
  ASSERT_TRUE(padded.ok()) << padded.status();
  const auto pixel = [&](int x) {
    return std::vector<int>(padded->pixels.begin() + 3 * x, padded->pixels.begin() + 3 * x + 3);
  };
  EXPECT_EQ(pixel(5), std::vector<int>({0, 128, 255}));
  EXPECT_EQ(pixel(6), std::vector<int>({100, 100, 100}));
  EXPECT_EQ(pixel(9), std::vector<int>({100, 100, 100}));
  EXPECT_EQ(pixel(10), std::vector<int>({0, 128, 255}));
}

// timm fails here: it rounds the short side to 0 pixels.
TEST(PreprocessTest, KeepsAPixelOfAPhotoThatIsTooThinForTheBorderMode) {
  InputSpec spec;
  spec.height = spec.width = 31;
  spec.crop_mode = CropMode::kBorder;
  const absl::StatusOr<Image> padded = ResizeAndCrop(Uniform(700, 3, 100), spec);
  ASSERT_TRUE(padded.ok()) << padded.status();
  EXPECT_EQ(padded->pixels[3 * 15], 100);
}

}  // namespace
}  // namespace dla
