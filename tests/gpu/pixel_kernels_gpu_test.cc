// The kernels on a card, against the processor. What they compute is pinned by
// tests/unit/cuda_kernels_test.cc; here it is whether a card computes the same.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "model/cuda/device_kernels.h"
#include "model/normalize.h"
#include "model/preprocess.h"
#include "model/top_k.h"

namespace dla::cuda {
namespace {

// Bytes on the device.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    EXPECT_EQ(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, 0xa5, bytes), cudaSuccess);
    // The tests' stream does not wait for the default one.
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  template <typename T>
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size() * sizeof(T)) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), bytes_, cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  ~Buffer() { (void)cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  template <typename T>
  std::vector<T> Read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  const size_t bytes_;
  void* data_ = nullptr;
};

class PixelKernelsGpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
      (void)cudaGetLastError();
      GTEST_SKIP() << "no card: " << cudaGetErrorString(error);
    }
    static const auto* const kernels =
        new absl::StatusOr<std::shared_ptr<const PixelKernels>>(MakePixelKernels(0));
    ASSERT_TRUE(kernels->ok()) << kernels->status();
    kernels_ = (*kernels)->get();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }

  const PixelKernels* kernels_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

std::vector<uint8_t> Bytes(size_t size, uint32_t seed) {
  std::vector<uint8_t> bytes(size);
  std::mt19937 random(seed);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// Finite values as floats; the types of 16 bits get their upper half as bfloat16, see below.
std::vector<float> Values(size_t size, uint32_t seed) {
  std::vector<float> values(size);
  std::mt19937 random(seed);
  for (float& value : values) value = std::ldexp(static_cast<float>(random() % 255) - 127, -3);
  return values;
}

std::vector<uint16_t> ToBf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value) >> 16);
  return bits;
}

TEST_F(PixelKernelsGpuTest, NormalizationEqualsTheProcessorsInEveryBit) {
  InputSpec spec;
  const int pixels = spec.height * spec.width;
  const std::vector<uint8_t> photo = Bytes(size_t{3} * pixels, 1);
  const Normalizer normalizer(spec);
  std::vector<float> expected(photo.size());
  std::vector<uint16_t> expected_bf16(photo.size());
  normalizer.ToFloat32(photo.data(), expected.data());
  normalizer.ToBfloat16(photo.data(), expected_bf16.data());
  const Buffer in(photo);
  for (const int channels : {3, 4, 8}) {
    const Buffer fp32(size_t{4} * pixels * channels), bf16(size_t{2} * pixels * channels);
    const Buffer fp16(size_t{2} * pixels * channels);
    const NormalizeFactors factors(spec);
    for (const auto& [element, out] :
         {std::pair{Element::kFp32, &fp32}, {Element::kBf16, &bf16}, {Element::kFp16, &fp16}}) {
      ASSERT_TRUE(kernels_
                      ->Normalize(in.as<uint8_t>(), pixels, factors, element, channels,
                                  out->as<void>(), stream_)
                      .ok());
    }
    const auto values = fp32.Read<float>();
    const auto bf16_bits = bf16.Read<uint16_t>();
    const auto fp16_bits = fp16.Read<uint16_t>();
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t c = i % channels, from = i / channels * 3 + c;
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]),
                c < 3 ? std::bit_cast<uint32_t>(expected[from]) : 0u);
      ASSERT_EQ(bf16_bits[i], c < 3 ? expected_bf16[from] : 0);
      // Half a unit in the last place of 11 bits.
      const int exponent = fp16_bits[i] >> 10 & 31;
      const float magnitude = exponent == 0
                                  ? std::ldexp(float(fp16_bits[i] & 1023), -24)
                                  : std::ldexp(float((fp16_bits[i] & 1023) | 1024), exponent - 25);
      const float half = fp16_bits[i] >> 15 != 0 ? -magnitude : magnitude;
      const float exact = c < 3 ? expected[from] : 0;
      ASSERT_LE(std::abs(half - exact),
                std::max(std::ldexp(1.0f, -25), std::abs(exact) * std::ldexp(1.0f, -11)));
    }
  }
}

TEST_F(PixelKernelsGpuTest, PoolsConcatenatesAndAverages) {
  const Shape shape = {.photos = 5, .height = 14, .width = 14, .channels = 72};
  const std::vector<float> values = Values(size_t{5} * 14 * 14 * 72, 2);
  const Buffer fp32(values), bf16(ToBf16(values));
  const Buffer pooled(values.size()), pooled_bf16(values.size() / 2);
  ASSERT_TRUE(
      kernels_->MaxPool2x2(fp32.as<void>(), shape, Element::kFp32, pooled.as<void>(), stream_)
          .ok());
  ASSERT_TRUE(
      kernels_->MaxPool2x2(bf16.as<void>(), shape, Element::kBf16, pooled_bf16.as<void>(), stream_)
          .ok());
  std::vector<float> expected;
  for (int n = 0; n < 5; ++n) {
    for (int y = 0; y < 14; y += 2) {
      for (int x = 0; x < 14; x += 2) {
        for (int c = 0; c < 72; ++c) {
          const auto at = [&](int dy, int dx) {
            return values[((n * 14 + y + dy) * 14 + x + dx) * 72 + c];
          };
          expected.push_back(std::max({at(0, 0), at(0, 1), at(1, 0), at(1, 1)}));
        }
      }
    }
  }
  EXPECT_EQ(pooled.Read<float>(), expected);
  EXPECT_EQ(pooled_bf16.Read<uint16_t>(), ToBf16(expected));

  const int pixels = 5 * 7 * 7;
  const std::vector<float> other = Values(size_t{24} * pixels, 3);
  const Buffer second(other), joined(size_t{4} * pixels * 96);
  ASSERT_TRUE(kernels_
                  ->Concat({{pooled.as<void>(), 72}, {second.as<void>(), 24}}, pixels,
                           Element::kFp32, joined.as<void>(), stream_)
                  .ok());
  std::vector<float> side_by_side;
  for (int p = 0; p < pixels; ++p) {
    side_by_side.insert(side_by_side.end(), &expected[p * 72], &expected[p * 72] + 72);
    side_by_side.insert(side_by_side.end(), &other[p * 24], &other[p * 24] + 24);
  }
  EXPECT_EQ(joined.Read<float>(), side_by_side);

  const Buffer means(size_t{4} * 5 * 96);
  ASSERT_TRUE(kernels_
                  ->GlobalAverage(joined.as<void>(), {5, 7, 7, 96}, Element::kFp32,
                                  means.as<float>(), stream_)
                  .ok());
  const auto averages = means.Read<float>();
  for (int n = 0; n < 5; ++n) {
    for (int c = 0; c < 96; ++c) {
      float sum = 0;
      for (int p = 0; p < 49; ++p) sum += side_by_side[(n * 49 + p) * 96 + c];
      ASSERT_EQ(averages[n * 96 + c], sum / 49);
    }
  }
}

TEST_F(PixelKernelsGpuTest, TopKEqualsTheProcessors) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 4);
  for (const int classes : {2, 5, 257, 1000, 100'000}) {
    constexpr int kPhotos = 7, kK = 16;
    std::vector<float> logits(kPhotos * classes);
    for (float& logit : logits) logit = std::round(normal(random) * 64) / 64;  // with ties
    logits[1] = std::numeric_limits<float>::quiet_NaN();
    const Buffer in(logits), indices(4 * kPhotos * kK), probabilities(4 * kPhotos * kK);
    ASSERT_TRUE(kernels_
                    ->TopK(in.as<float>(), kPhotos, classes, kK, indices.as<int32_t>(),
                           probabilities.as<float>(), stream_)
                    .ok());
    const auto got = indices.Read<int32_t>();
    const auto shares = probabilities.Read<float>();
    for (int n = 0; n < kPhotos; ++n) {
      const auto expected = TopK(absl::MakeSpan(logits).subspan(n * classes, classes), kK);
      for (int i = 0; i < kK; ++i) {
        const bool there = i < static_cast<int>(expected.size());
        ASSERT_EQ(got[n * kK + i], there ? expected[i].index : -1) << classes;
        ASSERT_FLOAT_EQ(shares[n * kK + i], there ? expected[i].probability : 0) << classes;
      }
    }
  }
}

TEST_F(PixelKernelsGpuTest, ResizingEqualsTheProcessorsInEveryPixel) {
  for (const auto& [height, width] : {std::pair{375, 500}, {2000, 1500}, {900, 200}, {17, 300}}) {
    Image photo;
    photo.height = height;
    photo.width = width;
    const std::vector<uint8_t> bytes = Bytes(photo.height * photo.row_bytes(), 5);
    photo.pixels.assign(bytes.begin(), bytes.end());
    const Buffer in(bytes);
    for (const Interpolation interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
      InputSpec spec;
      spec.interpolation = interpolation;
      spec.crop_mode = CropMode::kBorder;
      const auto plan = gpu::PlanResize(height, width, spec);
      ASSERT_TRUE(plan.ok());
      const Buffer tables(plan->tables), scratch(plan->scratch_bytes());
      const Buffer out(size_t{3} * spec.height * spec.width);
      const auto view = Upright(in.as<uint8_t>(), height, width, int64_t{3} * width, 1);
      ASSERT_TRUE(kernels_
                      ->Resize(*plan, tables.as<int32_t>(), view, scratch.as<uint8_t>(),
                               out.as<uint8_t>(), stream_)
                      .ok());
      const auto expected = ResizeAndCrop(photo, spec);
      ASSERT_TRUE(expected.ok());
      const auto pixels = out.Read<uint8_t>();
      EXPECT_TRUE(std::equal(pixels.begin(), pixels.end(), expected->pixels.begin(),
                             expected->pixels.end()))
          << height << " x " << width;
    }
  }
}

TEST_F(PixelKernelsGpuTest, RunFromAGraph) {
  const std::vector<float> logits = {1, 3, 2};
  const Buffer in(logits), indices(8), probabilities(8);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_TRUE(
      kernels_
          ->TopK(in.as<float>(), 1, 3, 2, indices.as<int32_t>(), probabilities.as<float>(), stream_)
          .ok());
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  EXPECT_EQ(indices.Read<int32_t>(), (std::vector<int32_t>{1, 2}));
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace dla::cuda
