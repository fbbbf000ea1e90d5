// nvJPEG on a card against libjpeg. That the way there and back is right is pinned by
// tests/unit/nvjpeg_lane_test.cc; here it is how near the pixels are, and that threads get along.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "model/cuda/device_kernels.h"
#include "model/cuda/nvjpeg_decoder.h"
#include "model/gpu/plain_jpeg.h"
#include "tests/unit/photo_files.h"

namespace dla::cuda {
namespace {

// Levels of 255, mean over a photo: what --decoder auto puts up with.
constexpr double kMaxMeanDifference = 0.5;

class NvjpegGpuTest : public ::testing::Test {
 protected:
  static constexpr int kThreads = 4;

  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
      (void)cudaGetLastError();
      GTEST_SKIP() << "no card: " << cudaGetErrorString(error);
    }
    const auto kernels = MakePixelKernels(0);
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    auto decoders = MakeNvjpegDecoders({{0, *kernels}}, kThreads);
    if (absl::IsNotFound(decoders.status())) GTEST_SKIP() << decoders.status().message();
    ASSERT_TRUE(decoders.ok()) << decoders.status();
    decoders_ = *std::move(decoders);
  }

  static std::vector<uint8_t> Decode(gpu::JpegDecoder& decoder, const std::string& bytes) {
    const auto photo = gpu::PlanJpeg(bytes, InputSpec(), LoadImageOptions());
    EXPECT_TRUE(photo.ok()) << photo.status();
    std::vector<uint8_t> out(size_t{3} * photo->plan.height * photo->plan.width);
    const absl::Status status = decoder.Decode(*photo, out.data());
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  static double MeanDifference(const std::vector<uint8_t>& pixels, const std::string& bytes) {
    const auto expected = LoadImage(bytes, InputSpec(), {.reduced_scale_decode = false});
    EXPECT_TRUE(expected.ok());
    double sum = 0;
    for (size_t i = 0; i < pixels.size(); ++i) sum += std::abs(pixels[i] - expected->pixels[i]);
    return sum / static_cast<double>(pixels.size());
  }

  std::vector<gpu::NamedJpegDecoder> decoders_;
};

std::vector<std::string> Photos() {
  std::vector<std::string> photos;
  for (const auto& entry : std::filesystem::directory_iterator(DLA_TEST_DATA "/photos")) {
    if (entry.path().extension() == ".jpg") photos.push_back(ReadFile(entry.path()));
  }
  photos.push_back(GoldenInput("12_megapixels.jpg"));
  return photos;
}

TEST_F(NvjpegGpuTest, PixelsAreNearThoseOfLibjpeg) {
  for (const gpu::NamedJpegDecoder& decoder : decoders_) {
    double worst = 0;
    for (const std::string& bytes : Photos()) {
      worst = std::max(worst, MeanDifference(Decode(*decoder.decoder, bytes), bytes));
    }
    std::cout << decoder.name << ": mean difference from libjpeg " << worst << " levels of 255\n";
    EXPECT_LE(worst, kMaxMeanDifference) << decoder.name;
  }
}

TEST_F(NvjpegGpuTest, OddSizesSamplingsAndOrientationsComeOutRight) {
  std::vector<std::string> names = {"baseline.jpg", "chroma_422.jpg", "chroma_444.jpg",
                                    "restart_markers.jpg", "quality_10.jpg"};
  for (int i = 1; i <= 8; ++i) names.push_back("orientation_" + std::to_string(i) + ".jpg");
  for (const gpu::NamedJpegDecoder& decoder : decoders_) {
    for (const std::string& name : names) {
      const std::string bytes = GoldenInput(name);
      const double difference = MeanDifference(Decode(*decoder.decoder, bytes), bytes);
      std::cout << decoder.name << ", " << name << ": " << difference << "\n";
      // Small photos, enlarged: chroma weighs more. A wrong turn or a wrong row is tens of levels.
      EXPECT_LE(difference, 3) << decoder.name << ", " << name;
    }
  }
}

TEST_F(NvjpegGpuTest, ThreadsGetTheSamePixelsAsOne) {
  const std::vector<std::string> photos = Photos();
  for (const gpu::NamedJpegDecoder& decoder : decoders_) {
    std::vector<std::vector<uint8_t>> expected;
    for (const std::string& bytes : photos) expected.push_back(Decode(*decoder.decoder, bytes));
    std::vector<std::thread> threads;
    for (int t = 0; t < 2 * kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 5 * photos.size(); ++i) {
          const size_t photo = (i + t) % photos.size();
          EXPECT_EQ(Decode(*decoder.decoder, photos[photo]), expected[photo]) << decoder.name;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace dla::cuda
