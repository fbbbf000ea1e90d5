#include "model/cuda/nvrtc.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "model/cuda/pixel_kernels.h"

namespace dla::cuda {
namespace {

class NvrtcTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::string> folders =
        absl::StrSplit(DLA_CUDA_LIBRARIES, ':', absl::SkipEmpty());
    auto nvrtc = Nvrtc::Load(folders);
    if (!nvrtc.ok()) GTEST_SKIP() << nvrtc.status().message();
    nvrtc_.emplace(*nvrtc);
  }

  std::optional<Nvrtc> nvrtc_;
};

// Names as they stand in a symbol table.
void ExpectAllKernels(const KernelImage& image) {
  for (const char* name : PixelKernels::KernelNames()) {
    EXPECT_TRUE(absl::StrContains(image.bytes, name)) << name;
  }
}

TEST_F(NvrtcTest, CompilesTheKernelsToMachineCodeOfCardsThatItKnows) {
  for (const auto& [major, minor] : {std::pair{8, 0}, {8, 9}, {9, 0}, {10, 0}, {12, 0}}) {
    const auto image = nvrtc_->Compile(PixelKernelSource(), "pixel_kernels.cu", major, minor);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_FALSE(image->is_ptx) << major << "." << minor;
    EXPECT_EQ(image->bytes.substr(0, 4),
              "\x7f"
              "ELF");
    ExpectAllKernels(*image);
  }
}

TEST_F(NvrtcTest, CompilesToPtxForCardsThatAreNewerThanItself) {
  const auto image = nvrtc_->Compile(PixelKernelSource(), "pixel_kernels.cu", 99, 0);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(image->is_ptx);
  EXPECT_TRUE(absl::StrContains(image->bytes, ".target sm_"));
  EXPECT_EQ(image->bytes.back(), '\0');
  ExpectAllKernels(*image);
}

TEST_F(NvrtcTest, FusesNoMultiplicationWithAnAddition) {
  const auto image = nvrtc_->Compile(PixelKernelSource(), "pixel_kernels.cu", 99, 0);
  ASSERT_TRUE(image.ok()) << image.status();
  const size_t begin = image->bytes.find(".entry normalize_fp32_3");
  const std::string kernel =
      image->bytes.substr(begin, image->bytes.find(".entry", begin + 1) - begin);
  EXPECT_TRUE(absl::StrContains(kernel, "mul.")) << kernel;
  EXPECT_FALSE(absl::StrContains(kernel, "fma.")) << kernel;
}

TEST_F(NvrtcTest, GivesTheCompilersLogForSourceThatIsWrong) {
  const auto image = nvrtc_->Compile("extern \"C\" __global__ void f() { g(); }", "f.cu", 9, 0);
  ASSERT_EQ(image.status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(image.status().message(), "f.cu(1)")) << image.status();
  EXPECT_TRUE(absl::StrContains(image.status().message(), "identifier \"g\" is undefined"))
      << image.status();
}

TEST_F(NvrtcTest, RefusesCardsThatAreTooOldForIt) {
  const auto image = nvrtc_->Compile(PixelKernelSource(), "pixel_kernels.cu", 3, 5);
  EXPECT_EQ(image.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(absl::StrContains(image.status().message(), "3.5")) << image.status();
}

}  // namespace
}  // namespace dla::cuda
