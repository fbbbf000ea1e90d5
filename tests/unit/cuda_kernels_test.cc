// Runs the kernels' own source on the processor, through the same calls that launch it on a card.
#include "model/cuda/pixel_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "model/normalize.h"
#include "model/preprocess.h"
#include "model/top_k.h"
#include "tests/support/cuda_shim.h"
#include "tests/support/shim_launcher.h"

namespace dla::cuda {
namespace {

// A tensor as the kernels want it, in the element type's bits.
class Tensor {
 public:
  Tensor(Element element, size_t size)
      : element_(element), size_(size), words_((bytes() + 15) / 16 + 1) {
    std::memset(words_.data(), 0xa5, words_.size() * 16);
  }

  size_t size() const { return size_; }
  size_t bytes() const { return size_ * (element_ == Element::kFp32 ? 4 : 2); }
  void* data() { return words_.data(); }
  const void* data() const { return words_.data(); }

  float at(size_t i) const {
    if (element_ == Element::kFp32) return static_cast<const float*>(data())[i];
    const uint16_t bits = static_cast<const uint16_t*>(data())[i];
    return element_ == Element::kFp16 ? shim::HalfToFloat(bits)
                                      : std::bit_cast<float>(uint32_t{bits} << 16);
  }
  void Set(size_t i, float value) {
    if (element_ == Element::kFp32) {
      static_cast<float*>(data())[i] = value;
    } else if (element_ == Element::kFp16) {
      static_cast<uint16_t*>(data())[i] = std::isnan(value) ? 0x7e00 : shim::FloatToHalf(value);
    } else {
      static_cast<uint16_t*>(data())[i] = std::bit_cast<uint32_t>(value) >> 16;
    }
  }
  // Small numbers that every type holds exactly.
  void FillExactly(uint32_t seed) {
    std::mt19937 random(seed);
    for (size_t i = 0; i < size_; ++i) Set(i, static_cast<int>(random() % 255) - 127);
  }
  bool NothingWrittenBehind() const {
    const auto* all = reinterpret_cast<const uint8_t*>(words_.data());
    return std::all_of(all + bytes(), all + words_.size() * 16,
                       [](uint8_t byte) { return byte == 0xa5; });
  }

 private:
  const Element element_;
  const size_t size_;
  struct alignas(16) Word {
    uint8_t bytes[16];
  };
  std::vector<Word> words_;
};

constexpr Element kElements[] = {Element::kFp16, Element::kBf16, Element::kFp32};

class CudaKernelsTest : public ::testing::Test {
 protected:
  const PixelKernels kernels_{std::make_unique<ShimLauncher>()};
};

TEST_F(CudaKernelsTest, WarmingTouchesNoMemory) { EXPECT_TRUE(kernels_.Warm(nullptr).ok()); }

TEST_F(CudaKernelsTest, NormalizationEqualsTheProcessorsInEveryBit) {
  InputSpec spec;
  spec.height = 13;
  spec.width = 37;
  const size_t pixels = 13 * 37;
  std::vector<uint8_t> photo(pixels * 3);
  for (size_t i = 0; i < photo.size(); ++i) photo[i] = (i / 3 + i % 3 * 85) % 256;
  std::vector<float> expected(photo.size());
  std::vector<uint16_t> expected_bf16(photo.size());
  Normalizer(spec).ToFloat32(photo.data(), expected.data());
  Normalizer(spec).ToBfloat16(photo.data(), expected_bf16.data());
  for (const Element element : kElements) {
    for (const int channels : {3, 4, 8}) {
      Tensor out(element, pixels * channels);
      ASSERT_TRUE(kernels_
                      .Normalize(photo.data(), pixels, NormalizeFactors(spec), element, channels,
                                 out.data(), nullptr)
                      .ok());
      ASSERT_TRUE(out.NothingWrittenBehind());
      for (size_t i = 0; i < out.size(); ++i) {
        const size_t c = i % channels, from = i / channels * 3 + c;
        const float value = out.at(i);
        if (c >= 3) {
          ASSERT_EQ(std::bit_cast<uint32_t>(value), 0u);
        } else if (element == Element::kFp32) {
          ASSERT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(expected[from]));
        } else if (element == Element::kBf16) {
          ASSERT_EQ(std::bit_cast<uint32_t>(value) >> 16, expected_bf16[from]);
        } else {
          ASSERT_EQ(value, shim::HalfToFloat(shim::FloatToHalf(expected[from])));
        }
      }
    }
  }
}

TEST_F(CudaKernelsTest, NormalizationRoundsTiesToTheEvenBfloat16) {
  NormalizeFactors factors{InputSpec()};
  factors.scale = {1, 1, 1};
  factors.offset = {256, 256, 256};  // 9 bits for odd pixels, of which bfloat16 holds 8
  const std::vector<uint8_t> photo = {1, 2, 3, 4, 5, 7};
  Tensor out(Element::kBf16, 6);
  ASSERT_TRUE(
      kernels_.Normalize(photo.data(), 2, factors, Element::kBf16, 3, out.data(), nullptr).ok());
  const std::vector<float> expected = {256, 258, 260, 260, 260, 264};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(out.at(i), expected[i]) << i;
}

TEST_F(CudaKernelsTest, HalvesOfTheShimAreThoseOfIeee754) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = shim::HalfToFloat(static_cast<uint16_t>(bits));
    ASSERT_EQ(shim::FloatToHalf(value), bits);
    // Halfway to the next one goes to the even one.
    if (bits + 1 < 0x7c00) {
      const float next = shim::HalfToFloat(static_cast<uint16_t>(bits + 1));
      ASSERT_EQ(shim::FloatToHalf((value + next) / 2), bits + (bits & 1));
    }
  }
  EXPECT_EQ(shim::HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(shim::HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(shim::FloatToHalf(-2.0f), 0xc000);
}

TEST_F(CudaKernelsTest, PoolingTakesTheLargestOfFour) {
  for (const Element element : kElements) {
    const Shape shape = {.photos = 3, .height = 6, .width = 10, .channels = 24};
    Tensor in(element, 3 * 6 * 10 * 24), out(element, 3 * 3 * 5 * 24);
    in.FillExactly(1);
    ASSERT_TRUE(kernels_.MaxPool2x2(in.data(), shape, element, out.data(), nullptr).ok());
    ASSERT_TRUE(out.NothingWrittenBehind());
    for (int n = 0, i = 0; n < 3; ++n) {
      for (int y = 0; y < 3; ++y) {
        for (int x = 0; x < 5; ++x) {
          for (int c = 0; c < 24; ++c, ++i) {
            const auto from = [&](int dy, int dx) {
              return in.at(((n * 6 + 2 * y + dy) * 10 + 2 * x + dx) * 24 + c);
            };
            ASSERT_EQ(out.at(i), std::max({from(0, 0), from(0, 1), from(1, 0), from(1, 1)}));
          }
        }
      }
    }
  }
}

TEST_F(CudaKernelsTest, PoolingPassesOnWhatIsNotANumberFromEachOfTheFour) {
  for (const Element element : kElements) {
    const Shape shape = {.photos = 1, .height = 2, .width = 2, .channels = 8};
    for (int at = 0; at < 4; ++at) {
      Tensor in(element, 32), out(element, 8);
      in.FillExactly(2);
      in.Set(at * 8 + 3, std::numeric_limits<float>::quiet_NaN());
      in.Set(at * 8 + 4, -std::numeric_limits<float>::infinity());
      ASSERT_TRUE(kernels_.MaxPool2x2(in.data(), shape, element, out.data(), nullptr).ok());
      for (int c = 0; c < 8; ++c) EXPECT_EQ(std::isnan(out.at(c)), c == 3) << at << " " << c;
      EXPECT_TRUE(std::isfinite(out.at(4)));
    }
  }
}

TEST_F(CudaKernelsTest, FinishesAConvolutionWithBiasResidualAndRelu) {
  for (const Element element : kElements) {
    const Shape shape = {.photos = 2, .height = 3, .width = 5, .channels = 24};
    constexpr int kValues = 2 * 3 * 5 * 24;
    std::vector<float> bias(24);
    for (int c = 0; c < 24; ++c) bias[c] = static_cast<float>(c) - 12;
    for (const bool has_bias : {false, true}) {
      for (const bool has_residual : {false, true}) {
        for (const bool relu : {false, true}) {
          Tensor before(element, kValues), y(element, kValues), residual(element, kValues);
          before.FillExactly(3);
          y.FillExactly(3);
          residual.FillExactly(4);
          ASSERT_TRUE(kernels_
                          .FinishConv(y.data(), shape, element, has_bias ? bias.data() : nullptr,
                                      has_residual ? residual.data() : nullptr, relu, nullptr)
                          .ok());
          ASSERT_TRUE(y.NothingWrittenBehind());
          for (int i = 0; i < kValues; ++i) {
            float expected = before.at(i);
            if (has_bias) expected += bias[i % 24];
            if (has_residual) expected += residual.at(i);
            if (relu) expected = std::max(expected, 0.0f);
            // What 16 bits keep of a sum.
            ASSERT_NEAR(y.at(i), expected,
                        element == Element::kFp32 ? 0 : 0.008 * std::abs(expected));
          }
        }
      }
    }
  }
}

TEST_F(CudaKernelsTest, ConcatPutsTheChannelsOfEachPixelSideBySide) {
  for (const Element element : kElements) {
    for (const std::vector<int>& channels :
         {std::vector<int>{8}, {8, 16}, {64, 8, 24}, {8, 8, 8, 8, 8, 8, 8, 8}, {16, 0, 8}}) {
      constexpr int kPixels = 2 * 3 * 5;
      std::vector<Tensor> tensors;
      std::vector<PixelKernels::Part> parts;
      int sum = 0;
      for (const int c : channels) {
        tensors.emplace_back(element, kPixels * c);
        tensors.back().FillExactly(static_cast<uint32_t>(sum) + 5);
        sum += c;
      }
      for (size_t p = 0; p < channels.size(); ++p)
        parts.push_back({tensors[p].data(), channels[p]});
      Tensor out(element, kPixels * sum);
      ASSERT_TRUE(kernels_.Concat(parts, kPixels, element, out.data(), nullptr).ok());
      ASSERT_TRUE(out.NothingWrittenBehind());
      for (int pixel = 0, i = 0; pixel < kPixels; ++pixel) {
        for (size_t p = 0; p < channels.size(); ++p) {
          for (int c = 0; c < channels[p]; ++c, ++i) {
            ASSERT_EQ(out.at(i), tensors[p].at(pixel * channels[p] + c));
          }
        }
      }
    }
  }
}

TEST_F(CudaKernelsTest, AveragesInFloatFromTheFirstPixelToTheLast) {
  for (const Element element : kElements) {
    const Shape shape = {.photos = 5, .height = 7, .width = 7, .channels = 72};
    Tensor in(element, 5 * 49 * 72);
    std::mt19937 random(3);
    for (size_t i = 0; i < in.size(); ++i) in.Set(i, std::ldexp(random(), -30));
    std::vector<float> out(5 * 72, -1);
    ASSERT_TRUE(kernels_.GlobalAverage(in.data(), shape, element, out.data(), nullptr).ok());
    for (int n = 0; n < 5; ++n) {
      for (int c = 0; c < 72; ++c) {
        float sum = 0;
        for (int p = 0; p < 49; ++p) sum += in.at((n * 49 + p) * 72 + c);
        ASSERT_EQ(out[n * 72 + c], sum / 49);
      }
    }
  }
}

class TopKTest : public CudaKernelsTest {
 protected:
  void Compare(const std::vector<float>& logits, int photos, int k) {
    const int classes = static_cast<int>(logits.size()) / photos;
    std::vector<int32_t> indices(photos * k + 1, -7);
    std::vector<float> probabilities(photos * k + 1, -7);
    ASSERT_TRUE(
        kernels_
            .TopK(logits.data(), photos, classes, k, indices.data(), probabilities.data(), nullptr)
            .ok());
    for (int n = 0; n < photos; ++n) {
      const auto expected = TopK(absl::MakeSpan(logits).subspan(n * classes, classes), k);
      for (int i = 0; i < k; ++i) {
        const int index = indices[n * k + i];
        const float probability = probabilities[n * k + i];
        if (i >= static_cast<int>(expected.size())) {
          ASSERT_EQ(index, -1);
          ASSERT_EQ(probability, 0);
          continue;
        }
        ASSERT_EQ(index, expected[i].index) << classes << " classes, place " << i;
        // Sums of doubles in another order: at most the last bit of a float.
        ASSERT_FLOAT_EQ(probability, expected[i].probability) << classes << " classes, place " << i;
      }
    }
    EXPECT_EQ(indices.back(), -7);
    EXPECT_EQ(probabilities.back(), -7);
  }
};

TEST_F(TopKTest, EqualsTheProcessorsForAnyNumberOfClasses) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 4);
  for (const int classes : {1, 2, 3, 5, 31, 255, 256, 257, 1000, 21'843, 100'000}) {
    std::vector<float> logits(3 * classes);
    for (float& logit : logits) logit = normal(random);
    for (const int k : {1, 5, 32}) Compare(logits, 3, k);
  }
}

TEST_F(TopKTest, GivesTiesToTheLowerIndex) {
  std::mt19937 random(5);
  for (const int classes : {2, 300, 1000}) {
    std::vector<float> logits(2 * classes);
    for (float& logit : logits) logit = static_cast<int>(random() % 3) - 1;
    Compare(logits, 2, 32);
    std::fill(logits.begin(), logits.end(), 0.0f);
    for (size_t i = 0; i < logits.size(); i += 3) logits[i] = -0.0f;
    Compare(logits, 2, 32);
  }
}

TEST_F(TopKTest, PutsWhatIsNotFiniteLast) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Compare({nan, 1, inf, -1, -inf, -nan, 3e38f, -3e38f}, 1, 8);
  Compare({nan, inf, -inf, nan}, 2, 2);
  Compare({std::numeric_limits<float>::denorm_min(), 0, -0.0f,
           -std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::lowest(),
           std::numeric_limits<float>::max()},
          1, 6);
}

TEST_F(CudaKernelsTest, ProbabilitiesOfEqualLogitsAreExact) {
  const std::vector<float> logits(1000, 2.5f);
  int32_t index = -1;
  float probability = -1;
  ASSERT_TRUE(kernels_.TopK(logits.data(), 1, 1000, 1, &index, &probability, nullptr).ok());
  EXPECT_EQ(index, 0);
  EXPECT_EQ(probability, 0.001f);
}

Image Photo(int height, int width, uint32_t seed) {
  Image photo;
  photo.height = height;
  photo.width = width;
  photo.pixels.resize(photo.height * photo.row_bytes());
  std::mt19937 random(seed);
  for (uint8_t& value : photo.pixels) value = static_cast<uint8_t>(random());
  return photo;
}

struct ResizeCase {
  int height;
  int width;
};

class ResizeKernelsTest : public CudaKernelsTest {
 protected:
  // Of a photo that is stored as `stored` and turned by `orientation`.
  std::vector<uint8_t> Resized(const Image& stored, int orientation, const InputSpec& spec) {
    const bool transposed = orientation >= 5;
    const int height = transposed ? stored.width : stored.height;
    const int width = transposed ? stored.height : stored.width;
    const auto plan = gpu::PlanResize(height, width, spec);
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<uint8_t> scratch(plan->scratch_bytes());
    std::vector<uint8_t> out(size_t{3} * spec.height * spec.width);
    const auto view = Upright(stored.pixels.data(), stored.height, stored.width,
                              static_cast<int64_t>(stored.row_bytes()), orientation);
    EXPECT_TRUE(
        kernels_.Resize(*plan, plan->tables.data(), view, scratch.data(), out.data(), nullptr)
            .ok());
    return out;
  }

  void ExpectSame(const Image& photo, const InputSpec& spec) {
    const auto expected = ResizeAndCrop(photo, spec);
    ASSERT_TRUE(expected.ok());
    const std::vector<uint8_t> out = Resized(photo, 1, spec);
    ASSERT_TRUE(
        std::equal(out.begin(), out.end(), expected->pixels.begin(), expected->pixels.end()))
        << photo.height << " x " << photo.width;
  }
};

TEST_F(ResizeKernelsTest, EqualTheProcessorsInEveryPixel) {
  for (const auto& [height, width] : {std::pair{375, 500},
                                      {500, 375},
                                      {224, 224},
                                      {31, 47},
                                      {1, 1},
                                      {2, 900},
                                      {900, 2},
                                      {256, 256},
                                      {1200, 300},
                                      {1500, 2000}}) {
    const Image photo = Photo(height, width, 6);
    for (const Interpolation interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
      for (const CropMode mode : {CropMode::kCenter, CropMode::kSquash, CropMode::kBorder}) {
        InputSpec spec;
        spec.interpolation = interpolation;
        spec.crop_mode = mode;
        ExpectSame(photo, spec);
      }
    }
  }
}

TEST_F(ResizeKernelsTest, EqualTheProcessorsForOtherInputSizes) {
  const Image photo = Photo(333, 517, 7);
  for (const auto& [height, width] : {std::pair{32, 32}, {96, 160}, {288, 288}, {7, 300}}) {
    for (const double crop : {0.5, 0.875, 0.95, 1.0}) {
      InputSpec spec;
      spec.height = height;
      spec.width = width;
      spec.crop_pct = crop;
      ExpectSame(photo, spec);
    }
  }
}

TEST_F(ResizeKernelsTest, BothOrdersOfPassesAreCovered) {
  InputSpec spec;
  spec.crop_mode = CropMode::kSquash;
  EXPECT_TRUE(gpu::PlanResize(1200, 300, spec)->vertical_pass_first);
  EXPECT_TRUE(gpu::PlanResize(900, 410, spec)->vertical_pass_first);
  EXPECT_FALSE(gpu::PlanResize(375, 500, spec)->vertical_pass_first);
}

TEST_F(ResizeKernelsTest, ReadTurnedPhotosAsIfTheyWereUpright) {
  // The second is so tall that squashing it starts with the vertical pass.
  for (const auto& [mode, height] : {std::pair{CropMode::kCenter, 300}, {CropMode::kSquash, 900}}) {
    const Image upright = Photo(height, 410, 8);
    InputSpec spec;
    spec.crop_mode = mode;
    const auto expected = ResizeAndCrop(upright, spec);
    ASSERT_TRUE(expected.ok());
    for (int orientation = 1; orientation <= 8; ++orientation) {
      // Where EXIF 2.32 says that pixel (y, x) of the upright photo is stored.
      const bool transposed = orientation >= 5;
      Image stored = Photo(transposed ? 410 : height, transposed ? height : 410, 0);
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 410; ++x) {
          const int right = 409 - x, down = height - 1 - y;
          const std::pair<int, int> places[] = {{},        {y, x}, {y, right}, {down, right},
                                                {down, x}, {x, y}, {right, y}, {right, down},
                                                {x, down}};
          const auto [row, column] = places[orientation];
          std::copy_n(&upright.pixels[(y * 410 + x) * 3], 3,
                      &stored.pixels[(row * stored.width + column) * 3]);
        }
      }
      const std::vector<uint8_t> out = Resized(stored, orientation, spec);
      EXPECT_TRUE(std::equal(out.begin(), out.end(), expected->pixels.begin())) << orientation;
    }
  }
}

TEST_F(ResizeKernelsTest, LeaveNearestNeighbourToTheProcessor) {
  InputSpec spec;
  spec.interpolation = Interpolation::kNearest;
  EXPECT_EQ(gpu::PlanResize(300, 300, spec).status().code(), absl::StatusCode::kUnimplemented);
}

// Refuses every launch.
class NoLauncher : public KernelLauncher {
 public:
  absl::Status Launch(int, unsigned, unsigned, void**, Stream) const override {
    return absl::AbortedError("launched");
  }
};

TEST(PixelKernelsTest, RefusesSizesThatAKernelDoesNotTakeBeforeAnythingIsLaunched) {
  const PixelKernels kernels(std::make_unique<NoLauncher>());
  const Element half = Element::kFp16;
  alignas(16) uint8_t memory[64] = {};
  const auto expect = [](const absl::Status& status, absl::string_view words) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(words), absl::string_view::npos) << status;
  };
  const NormalizeFactors factors{InputSpec()};
  expect(kernels.Normalize(memory, 1, factors, half, 5, memory, nullptr), "5 channels");
  expect(kernels.Normalize(memory, int64_t{1} << 31, factors, half, 3, memory, nullptr),
         "2147483648 results");
  expect(kernels.Normalize(memory, 1, factors, half, 3, memory + 2, nullptr), "16-byte aligned");
  expect(kernels.MaxPool2x2(memory, {1, 3, 2, 8}, half, memory, nullptr), "3 x 2 pixels");
  expect(kernels.MaxPool2x2(memory, {1, 2, 2, 12}, half, memory, nullptr), "12 channels");
  expect(kernels.MaxPool2x2(memory + 8, {1, 2, 2, 8}, half, memory, nullptr), "16-byte aligned");
  expect(kernels.GlobalAverage(memory, {1, 2, 2, 2}, Element::kFp32, nullptr, nullptr),
         "2 channels");
  expect(kernels.Concat({}, 1, half, memory, nullptr), "0 tensors");
  expect(kernels.Concat(std::vector<PixelKernels::Part>(9, {memory, 8}), 1, half, memory, nullptr),
         "9 tensors");
  expect(kernels.Concat({{memory, 4}}, 1, half, memory, nullptr), "4 channels");
  expect(kernels.TopK(nullptr, 1, 10, 33, nullptr, nullptr, nullptr), "the 33 largest");
  expect(kernels.TopK(nullptr, 1, 0, 1, nullptr, nullptr, nullptr), "0 logits");
}

TEST(PixelKernelsTest, PassesTheLaunchersErrorsOn) {
  const PixelKernels kernels(std::make_unique<NoLauncher>());
  EXPECT_EQ(kernels.Warm(nullptr).code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace dla::cuda
