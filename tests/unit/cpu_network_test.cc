// The project's own kernels, all that this processor has: they agree with each other, whatever the
// sizes. That they agree with plain ATen is in network_test.cc, with timm in
// network_parity_test.cc.
#include "model/cpu/cpu_network.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/architecture.h"
#include "model/cpu/conv_kernel.h"
#include "model/layout.h"
#include "tests/support/formula_model.h"
#include "tests/support/variants.h"

namespace dla::cpu {
namespace {

constexpr int kClasses = 7;

struct Output {
  std::vector<float> logits;
  std::vector<float> embeddings;
};

using Photos = std::vector<std::vector<uint8_t>>;

// A variant's network with weights that a formula gives.
class TestNetwork {
 public:
  TestNetwork(absl::string_view variant, int height, int width, const KernelSet& kernels)
      : layout_(MakeLayout(**FindArchitecture(variant), kClasses)),
        tensors_(MakeFormulaTensors(variant, kClasses)),
        network_(
            layout_, [this](const std::string& name) { return Values(name); },
            InputSpec{.height = height, .width = width}, kernels) {}

  Output Run(const Photos& photos) const {
    std::vector<PhotoInput> inputs;
    for (const auto& photo : photos) inputs.push_back(photo.data());
    return Run(inputs);
  }

  Output Run(const std::vector<PhotoInput>& photos) const {
    Output output;
    output.logits.resize(photos.size() * kClasses);
    output.embeddings.resize(photos.size() * layout_.embedding_size);
    network_.Run(photos, output.logits.data(), output.embeddings.data());
    return output;
  }

 private:
  std::vector<float> Values(const std::string& name) const {
    const std::vector<uint8_t>& bytes = tensors_.at(name).bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  const NetworkLayout layout_;
  const FormulaTensors tensors_;
  const CpuNetwork network_;
};

bool HasAvx512() { return FindKernels(Element::kFloat32) != nullptr; }

std::vector<const KernelSet*> Bf16Kernels() {
  std::vector<const KernelSet*> kernels;
  if (HasAvx512() && HasAmx()) kernels.push_back(&AmxKernels());
  if (HasAvx512() && __builtin_cpu_supports("avx512bf16")) {
    kernels.push_back(&Avx512Bf16Kernels());
  }
  return kernels;
}

class CpuNetworkTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!HasAvx512()) GTEST_SKIP() << "this processor has no AVX-512";
  }
};

TEST_P(CpuNetworkTest, Bf16AgreesWithFloat32AtOddSizesAndBatches) {
  struct Case {
    int height, width, batch;
  };
  for (const Case c : {Case{31, 64, 3}, Case{63, 32, 2}, Case{96, 32, 1}}) {
    const Photos photos = MakeFormulaPhotos(c.batch, c.height, c.width);
    const Output expected = TestNetwork(GetParam(), c.height, c.width, Avx512Kernels()).Run(photos);
    for (const KernelSet* kernels : Bf16Kernels()) {
      SCOPED_TRACE(
          absl::StrCat(kernels->name(), ": ", c.batch, " photos of ", c.height, "x", c.width));
      const Output output = TestNetwork(GetParam(), c.height, c.width, *kernels).Run(photos);
      EXPECT_LE(RelativeL2(output.logits, expected.logits), 1.5e-2);
      EXPECT_LE(RelativeL2(output.embeddings, expected.embeddings), 1.5e-2);
    }
  }
}

TEST_P(CpuNetworkTest, ThreadsTogetherComputeWhatOneComputesAlone) {
  const TestNetwork network(GetParam(), 64, 31, *FindKernels(Element::kFloat32));
  for (const int batch : {1, 2, 3}) {
    SCOPED_TRACE(batch);
    const Photos photos = MakeFormulaPhotos(batch, 64, 31);
    const Output alone = network.Run(photos);
    for (const int threads : {2, 3}) {
      CpuNetwork::UseThreads(threads);
      const Output together = network.Run(photos);
      CpuNetwork::UseThreads(1);
      EXPECT_EQ(together.logits, alone.logits) << threads << " threads";
      EXPECT_EQ(together.embeddings, alone.embeddings) << threads << " threads";
    }
  }
}

// Of 4 photos 2 threads take two each; 3 threads take one after the other together.
TEST_P(CpuNetworkTest, APhotoThatTheCallerNormalisedGetsTheAnswerOfItsPixels) {
  const Photos photos = MakeFormulaPhotos(4, 63, 31);
  std::vector<std::vector<float>> normalized;
  std::vector<PhotoInput> mixed;
  for (size_t i = 0; i < photos.size(); ++i) {
    normalized.push_back(NormalizeFormulaPhoto(photos[i], {.height = 63, .width = 31}));
    mixed.push_back(i == 1 ? PhotoInput(photos[i].data())
                           : PhotoInput::Normalized(normalized[i].data()));
  }
  std::vector<const KernelSet*> all = Bf16Kernels();
  all.push_back(&Avx512Kernels());
  for (const KernelSet* kernels : all) {
    const TestNetwork network(GetParam(), 63, 31, *kernels);
    const Output expected = network.Run(photos);
    // In bf16 a value that lies between two may be rounded the other way.
    const double tolerance = kernels->element() == Element::kBf16 ? 1.5e-2 : 1e-5;
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat(kernels->name(), ", ", threads, " threads"));
      CpuNetwork::UseThreads(threads);
      const Output output = network.Run(mixed);
      CpuNetwork::UseThreads(1);
      EXPECT_LE(RelativeL2(output.logits, expected.logits), tolerance);
      EXPECT_LE(RelativeL2(output.embeddings, expected.embeddings), tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuNetworkTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& variant) { return variant.param; });

// What an earlier, larger or other batch left in memory must not show.
TEST(CpuNetworkMemoryTest, AResultDoesNotDependOnWhatRanBefore) {
  for (const Element element : {Element::kFloat32, Element::kBf16}) {
    const KernelSet* kernels = FindKernels(element);
    if (kernels == nullptr) GTEST_SKIP() << "this processor has no AVX-512";
    const TestNetwork network(VariantsToTest().back() == "dla169" ? "dla60_res2net" : "dla46_c", 31,
                              63, *kernels);
    const Photos photos = MakeFormulaPhotos(3, 31, 63);
    const Output first = network.Run({photos[0]});
    network.Run({photos[2], photos[1], photos[2]});
    EXPECT_EQ(network.Run({photos[0]}).logits, first.logits);
  }
}

TEST(CpuNetworkMemoryTest, RunsAtTheSameTimeDoNotTouchEachOther) {
  if (!HasAvx512()) GTEST_SKIP() << "this processor has no AVX-512";
  const TestNetwork network("dla46_c", 32, 32, Avx512Kernels());
  const Photos photos = MakeFormulaPhotos(4, 32, 32);
  std::vector<std::vector<float>> expected;
  for (const auto& photo : photos) expected.push_back(network.Run({photo}).logits);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < photos.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(network.Run({photos[i]}).logits, expected[i]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace dla::cpu
