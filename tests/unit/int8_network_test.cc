// Whole networks in int8 on the project's own kernels against plain loops, whatever the variant.
#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/architecture.h"
#include "model/cpu/cpu_network.h"
#include "tests/support/formula_model.h"
#include "tests/support/int8_reference.h"
#include "tests/support/variants.h"

namespace dla::cpu {
namespace {

constexpr int kClasses = 7;

struct Output {
  std::vector<float> logits;
  std::vector<float> embeddings;
};

// A variant with weights that a formula gives, and their quantization.
class TestModel {
 public:
  explicit TestModel(absl::string_view variant)
      : layout_(MakeLayout(**FindArchitecture(variant), kClasses)),
        tensors_(MakeFormulaTensors(variant, kClasses)),
        quantization_(QuantizeMinMax(layout_, Source(), {.height = 32, .width = 32},
                                     MakeFormulaPhoto("calibration", 32, 32))) {}

  Quantization& quantization() { return quantization_; }
  const NetworkLayout& layout() const { return layout_; }

  ReferenceOutput Reference(const std::vector<uint8_t>& photo, int height, int width) const {
    return RunInt8Reference(layout_, Source(), quantization_, {.height = height, .width = width},
                            photo);
  }

  Output Run(const std::vector<std::vector<uint8_t>>& photos, int height, int width,
             const Int8Kernels& kernels) const {
    const CpuNetwork network(layout_, Source(), quantization_, {.height = height, .width = width},
                             kernels);
    return Run(photos, network);
  }

  Output Run(const std::vector<std::vector<uint8_t>>& photos, const CpuNetwork& network) const {
    std::vector<PhotoInput> inputs;
    for (const auto& photo : photos) inputs.emplace_back(photo.data());
    Output output;
    output.logits.resize(photos.size() * kClasses);
    output.embeddings.resize(photos.size() * layout_.embedding_size);
    network.Run(inputs, output.logits.data(), output.embeddings.data());
    return output;
  }

 private:
  std::function<std::vector<float>(const std::string&)> Source() const {
    return [this](const std::string& name) {
      const std::vector<uint8_t>& bytes = tensors_.at(name).bytes;
      std::vector<float> values(bytes.size() / sizeof(float));
      std::memcpy(values.data(), bytes.data(), bytes.size());
      return values;
    };
  }

  const NetworkLayout layout_;
  const FormulaTensors tensors_;
  Quantization quantization_;
};

std::vector<const Int8Kernels*> AllKernels() {
  std::vector<const Int8Kernels*> kernels;
  if (HasAmxInt8()) kernels.push_back(&AmxInt8Kernels());
  if (HasVnni()) kernels.push_back(&VnniInt8Kernels());
  return kernels;
}

class Int8NetworkTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  }
};

TEST_P(Int8NetworkTest, ComputesWhatPlainLoopsDo) {
  const TestModel model(GetParam());
  struct Size {
    int height, width;
  };
  for (const Size size : {Size{32, 32}, Size{31, 63}}) {
    const auto photo = MakeFormulaPhoto("photo", size.height, size.width);
    const ReferenceOutput expected = model.Reference(photo, size.height, size.width);
    for (const Int8Kernels* kernels : AllKernels()) {
      SCOPED_TRACE(absl::StrCat(kernels->name(), ", ", size.height, "x", size.width));
      const Output output = model.Run({photo}, size.height, size.width, *kernels);
      std::cout << RelativeL2(output.embeddings, expected.embedding) << "\n";
      EXPECT_LE(RelativeL2(output.embeddings, expected.embedding), 3e-2);
      EXPECT_LE(RelativeL2(output.logits, expected.logits), 3e-2);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Int8NetworkTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace dla::cpu
