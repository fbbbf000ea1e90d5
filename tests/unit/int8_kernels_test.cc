// Single int8 convolutions of the project's kernels against loops over whole numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/cpu/int8_conv_kernel.h"
#include "model/cpu/int8_weights.h"
#include "model/cpu/tiles.h"

namespace dla::cpu {
namespace {

struct Case {
  int in, out, kernel, stride, groups;
  int cell, out_cell;
  int height, width;
  enum Residual { kNone, kUnsigned, kSigned } residual = kNone;
  bool is_signed = false;  // the output
  bool is_wide = false;
  float scale = 1e-3F;  // 0.1: sums so large that they exceed what the fast way allows
};

// Bytes of an image on cells, with a border of zeros and room to read beyond.
class Planes {
 public:
  Planes(int channels, int cell, const PlaneGeometry& geometry, int bytes_each = 1)
      : cell_(cell), each_(bytes_each), geometry_(geometry) {
    planes_ = (channels + cell - 1) / cell;
    plane_bytes_ = (geometry.cells() * cell * bytes_each + 63) / 64 * 64;
    const int64_t guard = (2 * geometry.pitch() + 64) * cell * bytes_each;
    bytes_ = (planes_ * plane_bytes_ + guard + 63) / 64 * 64;
    memory_.reset(static_cast<char*>(std::aligned_alloc(64, bytes_)));
    std::memset(memory_.get(), 0, bytes_);
    for (int i = 0; i < planes_; ++i) {
      first_.push_back(memory_.get() + i * plane_bytes_ + geometry_.origin() * cell_ * each_);
    }
  }

  const std::vector<char*>& First() const { return first_; }
  char* at(int channel, int y, int x) const {
    char* const plane = first_[channel / cell_];
    // cppcheck-suppress CastIntegerToAddressAtReturn ; misreads plane
    return plane + ((int64_t{y} * geometry_.pitch() + x) * cell_ + channel % cell_) * each_;
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  const int cell_;
  const int each_;
  const PlaneGeometry geometry_;
  int planes_;
  int64_t plane_bytes_;
  int64_t bytes_;
  std::unique_ptr<char, Free> memory_;
  std::vector<char*> first_;  // pixel of each plane
};

PlaneGeometry GeometryOf(int height, int width, int cell) {
  PlaneGeometry geometry{height, width};
  geometry.align = 2;
  geometry.left = cell == 32 ? 2 : 1;
  return geometry;
}

uint8_t Byte(const char* at) { return static_cast<uint8_t>(*at); }

// How many of the outputs differ, after checking that none differs by more than a step.
double Differing(const Case& c, const Int8Kernels& kernels) {
  std::mt19937 random(c.in + 7 * c.out + c.width);
  const ConvLayout layout{"conv", "norm", c.in, c.out, c.kernel, c.stride, c.groups};
  const int group_inputs = c.in / c.groups;
  Int8Conv conv;
  conv.weight.resize(size_t{1} * c.out * group_inputs * c.kernel * c.kernel);
  for (int8_t& weight : conv.weight) weight = static_cast<int8_t>(int(random() % 255) - 127);
  for (int o = 0; o < c.out; ++o) {
    conv.scale.push_back(c.scale * static_cast<float>(1 + random() % 8) /
                         static_cast<float>(group_inputs * c.kernel));
    conv.bias.push_back(static_cast<float>(random() % 2000) / 50 - 15);
  }
  const PlaneGeometry from = GeometryOf(c.height, c.width, c.cell);
  const int height = (c.height + c.stride - 1) / c.stride;
  const int width = (c.width + c.stride - 1) / c.stride;
  const PlaneGeometry to = GeometryOf(height, width, c.out_cell);
  const Planes input(c.in, c.cell, from);
  const Planes output(c.out, c.is_wide ? kCell : c.out_cell, to, c.is_wide ? 4 : 1);
  const Planes residual(c.out, 64, to);
  for (int y = 0; y < c.height; ++y) {
    for (int x = 0; x < c.width; ++x) {
      for (int i = 0; i < c.in; ++i) *input.at(i, y, x) = static_cast<char>(random());
    }
  }
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int o = 0; o < c.out; ++o) *residual.at(o, y, x) = static_cast<char>(random());
    }
  }

  constexpr float kStep = 0.25F;
  Int8Residual spec_residual;
  if (c.residual != Case::kNone) {
    spec_residual = {true, 64, 0.2F, c.residual == Case::kSigned};
  }
  const float step = c.is_wide ? 1 : kStep;
  const Int8ConvSpec spec =
      MakeInt8ConvSpec(layout, conv, {{c.in}, c.cell, from.pitch()},
                       {0, c.out, c.is_wide ? Element::kFloat32 : Element::kInt8,
                        c.is_wide ? kCell : c.out_cell, step, c.is_signed, !c.is_signed},
                       spec_residual);
  const int unit = UnitPixels(c.cell, c.stride);
  std::vector<PixelTile> tiles =
      FewestTiles({height, (width + unit - 1) / unit, from.pitch() * c.stride, unit * c.stride,
                   to.pitch(), unit},
                  kernels.wide().tile_pixels());
  for (PixelTile& tile : tiles) tile.valid |= tile.border;
  const std::vector<char*>& sources = input.First();
  const std::vector<const char*> const_sources(sources.begin(), sources.end());
  const std::vector<char*>& residuals = residual.First();
  const std::vector<const char*> const_residuals(residuals.begin(), residuals.end());
  const std::vector<char*>& targets = output.First();
  const ConvPiece piece{
      {const_sources.data(), c.residual == Case::kNone ? nullptr : const_residuals.data(),
       targets.data()},
      tiles};
  kernels.wide().BeginThread();
  kernels.MakeConv(spec)->Run(absl::MakeConstSpan(&piece, 1));
  kernels.wide().EndThread();

  int64_t differing = 0;
  const int pad = c.kernel / 2;
  for (int o = 0; o < c.out; ++o) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        int64_t sum = 0;
        const int8_t* weight = &conv.weight[size_t{1} * o * group_inputs * c.kernel * c.kernel];
        for (int i = 0; i < group_inputs; ++i) {
          const int channel = o / (c.out / c.groups) * group_inputs + i;
          for (int row = 0; row < c.kernel; ++row) {
            for (int column = 0; column < c.kernel; ++column, ++weight) {
              const int in_y = y * c.stride + row - pad;
              const int in_x = x * c.stride + column - pad;
              if (in_y < 0 || in_y >= c.height || in_x < 0 || in_x >= c.width) continue;
              sum += *weight * Byte(input.at(channel, in_y, in_x));
            }
          }
        }
        double value = double{conv.scale[o]} * static_cast<double>(sum) + conv.bias[o];
        if (c.residual != Case::kNone) {
          const int q = Byte(residual.at(o, y, x)) - (c.residual == Case::kSigned ? 128 : 0);
          value += q * double{spec_residual.step};
        }
        if (c.is_wide) {
          float actual;
          std::memcpy(&actual, output.at(o, y, x), sizeof(actual));
          EXPECT_NEAR(actual, std::max(value, 0.0), 1e-3 * std::max(1.0, std::abs(value)));
          continue;
        }
        const double expected =
            std::clamp(std::nearbyint(value / kStep) + (c.is_signed ? 128 : 0), 0.0, 255.0);
        const int actual = Byte(output.at(o, y, x));
        if (std::abs(actual - expected) > 1) {
          ADD_FAILURE() << "channel " << o << ", " << y << ", " << x << ": " << actual
                        << " instead of " << expected;
          return 1;
        }
        differing += actual != expected ? 1 : 0;
      }
    }
  }
  return static_cast<double>(differing) / (static_cast<double>(c.out) * height * width);
}

std::vector<Case> Cases() {
  return {
      // as blocks have them
      {64, 64, 1, 1, 1, 64, 64, 7, 7},
      {64, 64, 3, 1, 1, 64, 64, 9, 14},
      {128, 64, 3, 2, 1, 64, 64, 9, 14},
      {192, 96, 1, 1, 1, 64, 64, 5, 17},
      {112, 112, 3, 1, 1, 64, 64, 6, 7},
      {64, 128, 1, 1, 1, 64, 64, 7, 7, Case::kUnsigned},
      {64, 128, 3, 1, 1, 64, 64, 7, 9, Case::kSigned},
      {64, 64, 1, 1, 1, 64, 64, 7, 7, Case::kNone, true},
      {64, 64, 1, 1, 1, 64, 64, 7, 7, Case::kUnsigned, false, true},
      // few channels
      {16, 16, 3, 1, 1, 16, 16, 8, 31},
      {16, 32, 3, 2, 1, 16, 32, 9, 31},
      {32, 32, 3, 1, 1, 32, 32, 8, 15},
      {32, 32, 3, 2, 1, 32, 32, 7, 15},
      {32, 64, 1, 1, 1, 32, 64, 7, 7, Case::kUnsigned},
      {28, 28, 3, 1, 1, 32, 32, 5, 28},
      // groups
      {64, 64, 1, 1, 1, 64, 16, 7, 14},
      {64, 64, 3, 1, 32, 16, 64, 7, 14},
      {128, 128, 3, 2, 32, 16, 64, 9, 14},
      {128, 128, 3, 1, 8, 16, 64, 7, 7},
      {128, 128, 3, 1, 4, 32, 64, 7, 7},
      {128, 128, 3, 2, 4, 32, 64, 7, 13},
      // sums beyond what the fast way allows, results far beyond a byte
      {512, 64, 3, 1, 1, 64, 64, 4, 5, Case::kNone, false, false, 10},
      {512, 64, 3, 1, 1, 64, 64, 4, 5, Case::kUnsigned, false, false, 1},
  };
}

std::string Describe(const Case& c) {
  return absl::StrCat(c.in, " to ", c.out, ", kernel ", c.kernel, ", stride ", c.stride,
                      ", groups ", c.groups, ", cells of ", c.cell, " to ", c.out_cell, ", ",
                      c.height, "x", c.width, ", residual ", static_cast<int>(c.residual));
}

TEST(Int8ConvTest, VnniComputesWhatLoopsOverWholeNumbersDo) {
  if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    // In float32 what lies between two steps may fall to the other side.
    EXPECT_LE(Differing(c, VnniInt8Kernels()), 2e-4);
  }
}

// Its bias is a whole number of what its sums count in: so it may differ by a step, but rarely.
TEST(Int8ConvTest, AmxComputesWhatLoopsOverWholeNumbersDo) {
  if (!HasAmxInt8()) GTEST_SKIP() << "this processor has no AMX for int8";
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Describe(c));
    EXPECT_LE(Differing(c, AmxInt8Kernels()), 2e-2);
  }
}

TEST(Int8ConvTest, AmxAndVnniSaturateAlike) {
  if (!HasAmxInt8()) GTEST_SKIP() << "this processor has no AMX for int8";
  for (const float scale : {1.0F, 1e3F}) {
    Case c{64, 64, 3, 1, 1, 64, 64, 5, 9};
    c.scale = scale;
    SCOPED_TRACE(scale);
    EXPECT_LE(Differing(c, VnniInt8Kernels()), 2e-4);
    EXPECT_LE(Differing(c, AmxInt8Kernels()), 2e-2);
  }
}

}  // namespace
}  // namespace dla::cpu
