// Networks on real cards, against the reference on the processor. Skipped, with the reason, where
// there is no card.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <iostream>
#include <thread>
#include <utility>

#include "model/dla_model.h"
#include "model/gpu/plugin.h"
#include "model/top_k.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"
#include "tests/support/variants.h"

namespace dla {
namespace {

constexpr int kClasses = 1000;

// Once for the process.
const absl::StatusOr<gpu::Runtime*>& Cards() {
  static const auto* const runtime =
      new absl::StatusOr<gpu::Runtime*>(gpu::LoadRuntime(DLA_CUDA_PLUGIN));
  return *runtime;
}

std::vector<PhotoInput> Inputs(const std::vector<std::vector<uint8_t>>& photos) {
  std::vector<PhotoInput> inputs;
  for (const auto& photo : photos) inputs.emplace_back(photo.data());
  return inputs;
}

BatchOutput Classify(const Model& model, const std::vector<PhotoInput>& photos) {
  BatchOutput output;
  const absl::Status status = model.Run(photos, output);
  EXPECT_TRUE(status.ok()) << status;
  return output;
}

class CudaModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!Cards().ok()) GTEST_SKIP() << Cards().status().message();
    WriteFile(folder_.Path("model.safetensors"),
              SerializeSafeTensors(MakeFormulaTensors(GetParam(), kClasses)));
  }

  std::unique_ptr<Model> Load(int height, int width, LoadOptions options) {
    WriteFile(folder_.Path("config.json"), MakeConfigJson(GetParam(), kClasses, height, width));
    options.runtime = *Cards();
    auto model = LoadModel(folder_.Path(), options);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  std::unique_ptr<Model> Reference(int height, int width) {
    return Load(height, width,
                {.device = "cpu", .precision = Precision::kFp32, .engine = Engine::kReference});
  }

  const dla::testing::TempDir folder_;
};

TEST_P(CudaModelTest, AgreesWithTheReferenceInEveryPrecision) {
  const auto photos = MakeFormulaPhotos(5, 224, 224);
  const BatchOutput expected = Classify(*Reference(224, 224), Inputs(photos));
  struct Case {
    const char* name;
    Precision precision;
    double bound;
  };
  for (const Case c : {Case{"fp16", Precision::kFp16, 5e-3}, Case{"bf16", Precision::kBf16, 4e-2},
                       Case{"fp32", Precision::kFp32, 1e-4}}) {
    const auto model =
        Load(224, 224, {.device = "cuda:0", .precision = c.precision, .max_batch = 8});
    const BatchOutput found = Classify(*model, Inputs(photos));
    const double logits = RelativeL2(found.logits, expected.logits);
    const double embeddings = RelativeL2(found.embeddings, expected.embeddings);
    std::cout << GetParam() << " " << c.name << " logits " << logits << " embeddings " << embeddings
              << "\n";
    EXPECT_LE(logits, c.bound) << c.name;
    EXPECT_LE(embeddings, c.bound) << c.name;
  }
}

TEST_P(CudaModelTest, TakesOddSizesAndEveryBatchOfItsLadder) {
  struct Size {
    int height, width;
  };
  for (const Size size : {Size{96, 160}, Size{223, 223}}) {
    const auto photos = MakeFormulaPhotos(11, size.height, size.width);
    const BatchOutput expected = Classify(*Reference(size.height, size.width), Inputs(photos));
    const auto model = Load(size.height, size.width, {.device = "cuda:0", .max_batch = 6});
    for (size_t count = 1; count <= photos.size(); ++count) {
      std::vector<PhotoInput> some = Inputs(photos);
      some.resize(count);
      const BatchOutput found = Classify(*model, some);
      const absl::Span<const float> all = expected.logits;
      EXPECT_LE(RelativeL2(found.logits, all.first(count * kClasses)), 5e-3) << count;
    }
  }
}

TEST_P(CudaModelTest, PutsClassesInOrderAsTheProcessorDoes) {
  const auto model = Load(224, 224, {.device = "cuda:0", .max_batch = 4});
  const BatchOutput found = Classify(*model, Inputs(MakeFormulaPhotos(3, 224, 224)));
  ASSERT_GT(found.top_k, 0);
  for (int photo = 0; photo < 3; ++photo) {
    const absl::Span<const float> logits = found.logits;
    const auto expected = TopK(logits.subspan(photo * kClasses, kClasses), found.top_k);
    for (int i = 0; i < found.top_k; ++i) {
      const ClassProbability& top = found.top[photo * found.top_k + i];
      EXPECT_EQ(top.index, expected[i].index);
      EXPECT_NEAR(top.probability, expected[i].probability, 1e-5);
    }
  }
  ASSERT_TRUE(found.times.has_value());
  EXPECT_GT(found.times->compute, 0);
}

INSTANTIATE_TEST_SUITE_P(Variants, CudaModelTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& test) { return test.param; });

class CudaServingTest : public CudaModelTest {};

TEST_P(CudaServingTest, ManyThreadsGetTheirOwnAnswers) {
  const auto model = Load(224, 224, {.device = "cuda", .replicas = 2, .max_batch = 8});
  const auto photos = MakeFormulaPhotos(24, 224, 224);
  const BatchOutput expected = Classify(*model, Inputs(photos));
  const absl::Span<const float> all = expected.logits;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        const size_t begin = (t * 3 + round) % 16;
        const size_t count = 1 + (t + round) % 8;
        const std::vector<PhotoInput> inputs = Inputs(photos);
        const BatchOutput found =
            Classify(*model, {inputs.begin() + begin, inputs.begin() + begin + count});
        ASSERT_LE(RelativeL2(found.logits, all.subspan(begin * kClasses, count * kClasses)), 5e-3);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(CudaServingTest, TakesPhotosThatCallersNormalised) {
  const auto model = Load(224, 224, {.device = "cuda:0", .max_batch = 4});
  const auto photos = MakeFormulaPhotos(3, 224, 224);
  const std::vector<float> normalized = NormalizeFormulaPhoto(photos[1], model->info().input);
  const BatchOutput expected = Classify(*model, Inputs(photos));
  const BatchOutput found = Classify(
      *model, {photos[0].data(), PhotoInput::Normalized(normalized.data()), photos[2].data()});
  EXPECT_LE(RelativeL2(found.logits, expected.logits), 5e-3);
}

TEST_P(CudaServingTest, ReadsPhotosFromPinnedMemory) {
  const auto model = Load(224, 224, {.device = "cuda:0", .max_batch = 4});
  const auto photos = MakeFormulaPhotos(4, 224, 224);
  std::vector<Pixels> pinned;
  std::vector<PhotoInput> inputs;
  for (const auto& photo : photos) {
    pinned.emplace_back(photo.begin(), photo.end(), PixelAllocator<uint8_t>(model->photo_memory()));
    inputs.emplace_back(pinned.back().data());
  }
  EXPECT_EQ(Classify(*model, inputs).logits, Classify(*model, Inputs(photos)).logits);
}

TEST_P(CudaServingTest, LoadsAndUnloadsBesideAModelThatRuns) {
  const auto busy = Load(224, 224, {.device = "cuda:0", .max_batch = 8});
  const auto photos = MakeFormulaPhotos(8, 224, 224);
  const BatchOutput expected = Classify(*busy, Inputs(photos));
  std::atomic<bool> stop = false;
  std::thread thread([&] {
    while (!stop)
      ASSERT_LE(RelativeL2(Classify(*busy, Inputs(photos)).logits, expected.logits), 5e-3);
  });
  for (int i = 0; i < 3; ++i) {
    const auto other = Load(96, 160, {.device = "cuda:0", .max_batch = 4});
    Classify(*other, Inputs(MakeFormulaPhotos(4, 96, 160)));
  }
  stop = true;
  thread.join();
}

INSTANTIATE_TEST_SUITE_P(Variants, CudaServingTest, ::testing::Values("dla34", "dla60x"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace dla
