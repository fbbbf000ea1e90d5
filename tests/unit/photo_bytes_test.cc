// The bytes that an int8 first convolution reads, whatever the photo's size.
#include "model/cpu/photo_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/cpu/conv_kernel.h"
#include "tests/support/formula_model.h"

namespace dla::cpu {
namespace {

class PhotoBytesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (FindKernels(Element::kFloat32) == nullptr) GTEST_SKIP() << "this processor has no AVX-512";
  }
};

TEST_F(PhotoBytesTest, APixelLiesWithTheOneBelowAndMeansAround) {
  struct Size {
    int height, width;
  };
  for (const Size size : {Size{1, 1}, Size{3, 15}, Size{2, 16}, Size{5, 17}, Size{4, 31},
                          Size{7, 33}, Size{2, 224}}) {
    const int height = size.height;
    const int width = size.width;
    SCOPED_TRACE(::testing::Message() << height << "x" << width);
    const InputSpec spec{.height = height, .width = width};
    const PhotoBytes bytes(spec);
    const PlaneGeometry geometry = PhotoBytes::Geometry(spec);
    const std::vector<uint8_t> photo = MakeFormulaPhoto("photo", height, width);
    const RowRange rows = bytes.rows();
    EXPECT_EQ(rows.begin, -3);
    EXPECT_EQ(rows.end, height + 3);
    const int64_t row_bytes = int64_t{geometry.pitch()} * kPhotoCell;
    EXPECT_EQ(row_bytes % 64, 0);
    constexpr int kBeyond = 16 * kPhotoCell;
    constexpr char kUntouched = 0x5a;
    std::vector<char> memory(64 + rows.size() * row_bytes + kBeyond + 64, kUntouched);
    char* const first = memory.data() + 64 + 3 * row_bytes;
    // In two goes, as strips come.
    bytes.Write(photo.data(), rows.begin, 1, first);
    bytes.Write(photo.data(), 1, rows.end, first);

    constexpr uint8_t kMean[] = {124, 116, 104};  // 255 x 0.485, 0.456, 0.406
    const auto pixel = [&](int y, int x, int channel) {
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      return inside ? photo[(y * width + x) * 3 + channel] : kMean[channel];
    };
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int x = -3; x < width + 5; ++x) {
        const char* const cell = first + y * row_bytes + x * kPhotoCell;
        for (int below : {0, 1}) {
          for (int channel = 0; channel < 3; ++channel) {
            ASSERT_EQ(static_cast<uint8_t>(cell[4 * below + channel]), pixel(y + below, x, channel))
                << y << ", " << x << ", " << below;
          }
          ASSERT_EQ(cell[4 * below + 3], 0);
        }
      }
    }
    EXPECT_TRUE(std::all_of(memory.begin(), memory.begin() + 64 - 3 * kPhotoCell,
                            [](char byte) { return byte == kUntouched; }));
    EXPECT_TRUE(
        std::all_of(memory.end() - 64, memory.end(), [](char byte) { return byte == kUntouched; }));
  }
}

TEST_F(PhotoBytesTest, ReadsNothingBehindThePhoto) {
  // ASan watches the heap: the last row ends where the allocation does.
  const InputSpec spec{.height = 3, .width = 21};
  const std::vector<uint8_t> photo(size_t{3} * 21 * 3, 7);
  const PlaneGeometry geometry = PhotoBytes::Geometry(spec);
  std::vector<char> memory(64 + (9 * geometry.pitch() + 16) * kPhotoCell);
  PhotoBytes(spec).Write(photo.data(), -3, 6,
                         memory.data() + 64 + 3 * geometry.pitch() * kPhotoCell);
}

TEST(PhotoBytesFitTest, MeansHaveToBeBytes) {
  EXPECT_TRUE(PhotoBytes::Fit({}));
  EXPECT_TRUE(PhotoBytes::Fit({.mean = {0, 0.5F, 1}}));
  EXPECT_FALSE(PhotoBytes::Fit({.mean = {0.5F, -0.01F, 0.5F}}));
  EXPECT_FALSE(PhotoBytes::Fit({.mean = {0.5F, 0.5F, 1.01F}}));
}

}  // namespace
}  // namespace dla::cpu
