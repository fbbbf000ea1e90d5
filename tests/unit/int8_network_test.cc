// Whole networks in int8 on the project's own kernels against plain loops, whatever the variant.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
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

using Photos = std::vector<std::vector<uint8_t>>;

// A variant's first trees with weights that a formula gives, and their quantization.
class TestModel {
 public:
  explicit TestModel(absl::string_view variant, size_t trees = 4)
      : layout_(FirstTrees(variant, trees)),
        tensors_(MakeFormulaTensors(variant, kClasses)),
        quantization_(QuantizeMinMax(
            layout_, [this](const std::string& name) { return Values(name); },
            {.height = 32, .width = 32}, MakeFormulaPhoto("calibration", 32, 32))) {}

  Quantization& quantization() { return quantization_; }
  const NetworkLayout& layout() const { return layout_; }

  ReferenceOutput Reference(const std::vector<uint8_t>& photo, int height, int width) const {
    return RunInt8Reference(
        layout_, [this](const std::string& name) { return Values(name); }, quantization_,
        {.height = height, .width = width}, photo);
  }

  std::unique_ptr<CpuNetwork> Make(int height, int width, const Int8Kernels& kernels) const {
    return std::make_unique<CpuNetwork>(
        layout_, [this](const std::string& name) { return Values(name); }, quantization_,
        InputSpec{.height = height, .width = width}, kernels);
  }

  Output Run(const std::vector<PhotoInput>& photos, const CpuNetwork& network) const {
    Output output;
    output.logits.resize(photos.size() * kClasses);
    output.embeddings.resize(photos.size() * layout_.embedding_size);
    network.Run(photos, output.logits.data(), output.embeddings.data());
    return output;
  }
  Output Run(const Photos& photos, const CpuNetwork& network) const {
    std::vector<PhotoInput> inputs;
    for (const auto& photo : photos) inputs.emplace_back(photo.data());
    return Run(inputs, network);
  }

 private:
  static NetworkLayout FirstTrees(absl::string_view variant, size_t trees) {
    NetworkLayout layout = MakeLayout(**FindArchitecture(variant), kClasses);
    layout.trees.resize(trees);
    layout.embedding_size = layout.trees.back().root.out_channels;
    return layout;
  }

  std::vector<float> Values(const std::string& name) const {
    const std::vector<uint8_t>& bytes = tensors_.at(name).bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    if (name == "fc.weight") values.resize(size_t{kClasses} * layout_.embedding_size);
    return values;
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

// Made once: that takes longer than what is tested.
const TestModel& Cached(const std::string& variant, size_t trees) {
  static std::map<std::pair<std::string, size_t>, std::unique_ptr<TestModel>> models;
  std::unique_ptr<TestModel>& model = models[{variant, trees}];
  if (model == nullptr) model = std::make_unique<TestModel>(variant, trees);
  return *model;
}

struct Size {
  int height, width;
};

// A value that falls on the other side of a step changes what comes after it: the more layers, the
// more. So the first tree is looked at closely.
TEST_P(Int8NetworkTest, ComputesWhatPlainLoopsDo) {
  for (const size_t trees : {1, 4}) {
    const TestModel& model = Cached(GetParam(), trees);
    for (const Size size : {Size{32, 32}, Size{31, 63}}) {
      if (trees == 4 && size.width == 32) continue;
      const auto photo = MakeFormulaPhoto("photo", size.height, size.width);
      const ReferenceOutput expected = model.Reference(photo, size.height, size.width);
      for (const Int8Kernels* kernels : AllKernels()) {
        SCOPED_TRACE(absl::StrCat(kernels->name(), ", ", size.height, "x", size.width, ", ", trees,
                                  " trees"));
        const auto network = model.Make(size.height, size.width, *kernels);
        const Output output = model.Run(Photos{photo}, *network);
        const double tolerance = trees == 1 ? 6e-3 : 6e-2;
        EXPECT_LE(RelativeL2(output.embeddings, expected.embedding), tolerance);
        EXPECT_LE(RelativeL2(output.logits, expected.logits), tolerance);
      }
    }
  }
}

TEST_P(Int8NetworkTest, ThreadsAndBatchesComputeWhatOnePhotoAloneDoes) {
  const TestModel& model = Cached(GetParam(), 4);
  for (const Int8Kernels* kernels : AllKernels()) {
    const auto network = model.Make(64, 31, *kernels);
    const Photos photos = MakeFormulaPhotos(3, 64, 31);
    Output alone;
    for (const auto& photo : photos) {
      const Output output = model.Run(Photos{photo}, *network);
      alone.logits.insert(alone.logits.end(), output.logits.begin(), output.logits.end());
    }
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat(kernels->name(), ", ", threads, " threads"));
      CpuNetwork::UseThreads(threads);
      const Output together = model.Run(photos, *network);
      const Output one = model.Run(Photos{photos[0]}, *network);
      CpuNetwork::UseThreads(1);
      EXPECT_EQ(together.logits, alone.logits);
      EXPECT_TRUE(std::equal(one.logits.begin(), one.logits.end(), alone.logits.begin()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Int8NetworkTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& variant) { return variant.param; });

// What a quantization leaves out: single convolutions of every kind, with the steps of what no
// int8 convolution reads.
class Int8MixedNetworkTest : public ::testing::TestWithParam<std::string> {};

TEST_P(Int8MixedNetworkTest, ComputesInTheWiderTypeWhatIsLeftOut) {
  if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  TestModel model(GetParam(), /*trees=*/2);
  Quantization& quantization = model.quantization();
  const Quantization whole = quantization;
  const Graph graph = MakeGraph(model.layout());
  std::vector<std::string> names;
  for (const GraphOp& op : graph.ops) {
    if (op.kind == GraphOp::Kind::kConv) names.push_back(op.conv.conv);
  }
  const auto photo = MakeFormulaPhoto("photo", 31, 64);
  for (size_t first = 0; first < 11; ++first) {
    quantization = whole;
    // Every eleventh and the one after it.
    for (size_t i = first; i < names.size(); i += 11) {
      quantization.convs.erase(names[i]);
      if (i + 1 < names.size()) quantization.convs.erase(names[i + 1]);
    }
    const std::set<std::string> read = ValuesRead(
        graph, [&](const std::string& conv) { return quantization.convs.contains(conv); });
    std::erase_if(quantization.steps, [&](const auto& step) { return !read.contains(step.first); });
    const ReferenceOutput expected = model.Reference(photo, 31, 64);
    for (const Int8Kernels* kernels : AllKernels()) {
      SCOPED_TRACE(absl::StrCat(kernels->name(), " without ", names[first], " and others"));
      const auto network = model.Make(31, 64, *kernels);
      EXPECT_LE(RelativeL2(model.Run(Photos{photo}, *network).embeddings, expected.embedding),
                6e-2);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Int8MixedNetworkTest,
                         ::testing::Values("dla34", "dla46x_c", "dla60_res2net"),
                         [](const auto& variant) { return variant.param; });

TEST(Int8NetworkMemoryTest, AResultDoesNotDependOnWhatRanBefore) {
  if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  const TestModel model("dla46x_c");
  for (const Int8Kernels* kernels : AllKernels()) {
    const auto network = model.Make(31, 63, *kernels);
    const Photos photos = MakeFormulaPhotos(3, 31, 63);
    const Output first = model.Run(Photos{photos[0]}, *network);
    model.Run(Photos{photos[2], photos[1], photos[2]}, *network);
    EXPECT_EQ(model.Run(Photos{photos[0]}, *network).logits, first.logits) << kernels->name();
  }
}

TEST(Int8NetworkMemoryTest, TakesPhotosThatTheCallerNormalised) {
  if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  const TestModel model("dla46_c");
  const auto photo = MakeFormulaPhoto("photo", 63, 31);
  const auto values = NormalizeFormulaPhoto(photo, {.height = 63, .width = 31});
  for (const Int8Kernels* kernels : AllKernels()) {
    const auto network = model.Make(63, 31, *kernels);
    const Output expected = model.Run(Photos{photo}, *network);
    const Output output =
        model.Run(std::vector<PhotoInput>{PhotoInput::Normalized(values.data())}, *network);
    EXPECT_LE(RelativeL2(output.embeddings, expected.embeddings), 6e-2) << kernels->name();
  }
}

}  // namespace
}  // namespace dla::cpu
