#include "model/normalize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

namespace dla {
namespace {

class NormalizerTest : public ::testing::Test {
 protected:
  NormalizerTest() {
    spec_.height = 7;
    spec_.width = 37;  // a row of 111 values: no multiple of any vector
    for (int i = 0; i < spec_.height * spec_.width * 3; ++i) photo_.push_back(i * 37 % 256);
  }

  double Exact(size_t i) const {
    return (photo_[i] / 255.0 - spec_.mean[i % 3]) / spec_.std[i % 3];
  }

  InputSpec spec_;
  std::vector<uint8_t> photo_;
};

TEST_F(NormalizerTest, SubtractsTheMeanAndDividesByTheDeviation) {
  std::vector<float> out(photo_.size());
  Normalizer(spec_).ToFloat32(photo_.data(), out.data());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], Exact(i), 1e-6) << i;
}

TEST_F(NormalizerTest, RoundsToTheNearestBfloat16) {
  std::vector<float> wide(photo_.size());
  std::vector<uint16_t> out(photo_.size());
  Normalizer(spec_).ToFloat32(photo_.data(), wide.data());
  Normalizer(spec_).ToBfloat16(photo_.data(), out.data());
  for (size_t i = 0; i < out.size(); ++i) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(out[i]) << 16);
    // 8 bits of precision: half a unit in the last place.
    ASSERT_LE(std::abs(value - wide[i]), std::ldexp(1, std::ilogb(wide[i]) - 8)) << i;
  }
}

TEST_F(NormalizerTest, WritesNothingPastTheEnd) {
  std::vector<uint16_t> out(photo_.size() + 64, 0x1234);
  Normalizer(spec_).ToBfloat16(photo_.data(), out.data());
  for (size_t i = photo_.size(); i < out.size(); ++i) ASSERT_EQ(out[i], 0x1234);
}

}  // namespace
}  // namespace dla
