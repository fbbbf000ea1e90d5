// The stem against sums written out, at sizes that no network takes: smaller than a strip, odd, a
// single pixel.
#include "model/cpu/stem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/architecture.h"
#include "model/cpu/conv_kernel.h"
#include "model/folded_conv.h"
#include "model/layout.h"
#include "tests/support/formula_model.h"

namespace dla::cpu {
namespace {

struct Size {
  int height, width;
};
constexpr Size kSizes[] = {{1, 1}, {2, 3}, {15, 28}, {16, 31}, {17, 64}, {33, 29}, {50, 66}};

NetworkLayout StemLayout() {
  NetworkLayout layout = MakeLayout(**FindArchitecture("dla46_c"), 3);
  layout.trees.clear();
  return layout;
}

std::vector<float> Tensor(const std::string& name) {
  static const FormulaTensors tensors = MakeFormulaTensors("dla46_c", 3);
  const std::vector<uint8_t>& bytes = tensors.at(name).bytes;
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// [channels][height][width]
struct Image {
  int channels, height, width;
  std::vector<double> values = std::vector<double>(channels * height * width);

  double& at(int c, int y, int x) { return values[(c * height + y) * width + x]; }
};

Image Normalized(const std::vector<uint8_t>& photo, const InputSpec& spec) {
  Image image{3, spec.height, spec.width};
  for (int i = 0; i < 3 * spec.height * spec.width; ++i) {
    const int c = i % 3;
    image.at(c, i / 3 / spec.width, i / 3 % spec.width) =
        (photo[i] / 255.0 - spec.mean[c]) / spec.std[c];
  }
  return image;
}

Image ReluConv(Image& in, const FoldedConv& conv) {
  const int pad = conv.kernel / 2;
  Image out{conv.out_channels, (in.height + conv.stride - 1) / conv.stride,
            (in.width + conv.stride - 1) / conv.stride};
  for (int o = 0; o < out.channels; ++o) {
    for (int y = 0; y < out.height; ++y) {
      for (int x = 0; x < out.width; ++x) {
        double sum = conv.bias[o];
        const float* weight = &conv.weight[o * in.channels * conv.kernel * conv.kernel];
        for (int i = 0; i < in.channels; ++i) {
          for (int row = -pad; row <= pad; ++row) {
            for (int column = -pad; column <= pad; ++column, ++weight) {
              const int from_y = y * conv.stride + row;
              const int from_x = x * conv.stride + column;
              if (from_y < 0 || from_y >= in.height || from_x < 0 || from_x >= in.width) continue;
              sum += *weight * in.at(i, from_y, from_x);
            }
          }
        }
        out.at(o, y, x) = std::max(sum, 0.0);
      }
    }
  }
  return out;
}

std::vector<const KernelSet*> AllKernels() {
  std::vector<const KernelSet*> kernels;
  if (FindKernels(Element::kFloat32) == nullptr) return kernels;
  kernels.push_back(&Avx512Kernels());
  if (__builtin_cpu_supports("avx512bf16")) kernels.push_back(&Avx512Bf16Kernels());
  if (HasAmx()) kernels.push_back(&AmxKernels());
  return kernels;
}

// Memory on whole cells, filled with a byte.
class Cells {
 public:
  Cells(int64_t bytes, int fill) : bytes_((bytes + 127) / 128 * 128) {
    memory_.reset(static_cast<char*>(std::aligned_alloc(128, bytes_)));
    std::memset(memory_.get(), fill, bytes_);
  }
  char* data() const { return memory_.get(); }
  std::vector<char> Copy() const { return {data(), data() + bytes_}; }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  int64_t bytes_;
  std::unique_ptr<char, Free> memory_;
};

// A stem, memory for one thread and one output.
class TestStem {
 public:
  TestStem(Size size, const KernelSet& kernels)
      : kernels_(kernels),
        spec_{.height = size.height, .width = size.width},
        plan_(MakePlan(StemLayout(), Tensor, size.height, size.width, kernels)),
        stem_(spec_, plan_),
        strips_(plan_.strip_bytes, 0),
        output_(geometry().cells() * CellBytes(plan_.element), kUntouched) {}

  static constexpr int kUntouched = 0x55;

  const PlaneGeometry& geometry() const { return plan_.values[plan_.output].geometry; }
  const InputSpec& spec() const { return spec_; }
  std::vector<char> output() const { return output_.Copy(); }

  void Run(const std::vector<uint8_t>& photo, RowRange rows) const {
    Run(photo.data(), rows, strips_);
  }
  void RunNormalized(const std::vector<float>& values, RowRange rows) const {
    Run(PhotoInput::Normalized(values.data()), rows, strips_);
  }
  // In another thread than the others.
  void RunWithOtherMemory(const std::vector<uint8_t>& photo, RowRange rows) const {
    Run(photo.data(), rows, Cells(plan_.strip_bytes, 0));
  }

  float At(int channel, int y, int x) const {
    const int64_t cell = geometry().origin() + y * geometry().pitch() + x;
    float value;
    std::memcpy(&value, output_.data() + cell * CellBytes(plan_.element) + channel * 4, 4);
    return value;
  }

 private:
  void Run(const PhotoInput& photo, RowRange rows, const Cells& strips) const {
    char* target = output_.data() + geometry().origin() * CellBytes(plan_.element);
    kernels_.BeginThread();
    stem_.Run(photo, rows, strips.data(), &target);
    kernels_.EndThread();
  }

  const KernelSet& kernels_;
  const InputSpec spec_;
  const Plan plan_;
  const Stem stem_;
  const Cells strips_;
  const Cells output_;
};

TEST(StemTest, IsItsConvolutionsOneAfterTheOther) {
  if (AllKernels().empty()) GTEST_SKIP() << "this processor has no AVX-512";
  for (const Size size : kSizes) {
    SCOPED_TRACE(absl::StrCat(size.height, "x", size.width));
    const TestStem stem(size, Avx512Kernels());
    const int rows = stem.geometry().height;
    // What another photo leaves in memory must not show.
    stem.Run(MakeFormulaPhoto("other", size.height, size.width), {0, rows});
    const auto photo = MakeFormulaPhoto("photo", size.height, size.width);
    stem.Run(photo, {0, rows});
    Image expected = Normalized(photo, stem.spec());
    for (const ConvLayout& conv : StemLayout().stem) {
      expected = ReluConv(expected, FoldBatchNorm(conv, Tensor));
    }
    ASSERT_EQ(expected.height, rows);
    ASSERT_EQ(expected.width, stem.geometry().width);
    const double largest = *std::max_element(expected.values.begin(), expected.values.end());
    double error = 0;
    for (int c = 0; c < expected.channels; ++c) {
      for (int y = 0; y < expected.height; ++y) {
        for (int x = 0; x < expected.width; ++x) {
          error = std::max(error, std::abs(stem.At(c, y, x) - expected.at(c, y, x)));
        }
      }
    }
    EXPECT_GT(largest, 0);
    EXPECT_LE(error, 1e-5 * largest);
  }
}

TEST(StemTest, TakesPhotosThatTheCallerNormalised) {
  if (AllKernels().empty()) GTEST_SKIP() << "this processor has no AVX-512";
  for (const Size size : kSizes) {
    SCOPED_TRACE(absl::StrCat(size.height, "x", size.width));
    const auto photo = MakeFormulaPhoto("photo", size.height, size.width);
    const TestStem expected(size, Avx512Kernels());
    const TestStem stem(size, Avx512Kernels());
    const PlaneGeometry& geometry = stem.geometry();
    expected.Run(photo, {0, geometry.height});
    // In two parts, of which the second begins somewhere in the planes.
    const auto values = NormalizeFormulaPhoto(photo, stem.spec());
    stem.RunNormalized(values, {0, geometry.height / 3});
    stem.RunNormalized(values, {geometry.height / 3, geometry.height});
    for (int c = 0; c < 32; ++c) {
      for (int y = 0; y < geometry.height; ++y) {
        for (int x = 0; x < geometry.width; ++x) {
          const float value = expected.At(c, y, x);
          ASSERT_NEAR(stem.At(c, y, x), value, 1e-5 * std::max(1.0F, std::abs(value)))
              << c << ", " << y << ", " << x;
        }
      }
    }
  }
}

TEST(StemTest, ARowIsTheSameWhoeverComputesTheOthers) {
  for (const KernelSet* kernels : AllKernels()) {
    for (const Size size : kSizes) {
      SCOPED_TRACE(absl::StrCat(kernels->name(), " ", size.height, "x", size.width));
      const auto photo = MakeFormulaPhoto("photo", size.height, size.width);
      const TestStem whole(size, *kernels);
      const int rows = whole.geometry().height;
      whole.Run(photo, {0, rows});
      for (int at = 0; at <= rows; ++at) {
        const TestStem split(size, *kernels);
        std::thread other([&] { split.RunWithOtherMemory(photo, {at, rows}); });
        split.Run(photo, {0, at});
        other.join();
        EXPECT_EQ(split.output(), whole.output()) << "split at " << at;
      }
    }
  }
}

TEST(StemTest, WritesNothingButTheRowsAskedFor) {
  for (const KernelSet* kernels : AllKernels()) {
    const TestStem stem({33, 29}, *kernels);
    const PlaneGeometry& geometry = stem.geometry();
    const RowRange rows{3, 14};
    stem.Run(MakeFormulaPhoto("photo", 33, 29), rows);
    const std::vector<char> output = stem.output();
    const int64_t bytes = CellBytes(kernels->element());
    for (int64_t cell = 0; cell < geometry.cells(); ++cell) {
      const int64_t pixel = cell - geometry.origin();
      const bool is_asked_for = pixel >= rows.begin * geometry.pitch() &&
                                pixel < rows.end * geometry.pitch() &&
                                pixel % geometry.pitch() < geometry.width;
      const bool is_touched =
          std::any_of(&output[cell * bytes], &output[cell * bytes] + bytes,
                      [](char byte) { return byte != char{TestStem::kUntouched}; });
      EXPECT_EQ(is_touched, is_asked_for) << kernels->name() << ", cell " << cell;
    }
  }
}

}  // namespace
}  // namespace dla::cpu
