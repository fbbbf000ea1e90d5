// What must hold for every variant, whatever the sizes: the fast engine agrees with plain ATen.
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "model/dla_model.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"
#include "tests/support/variants.h"

namespace dla {
namespace {

constexpr int kClasses = 7;

BatchOutput Classify(const Model& model, const std::vector<PhotoInput>& photos) {
  BatchOutput output;
  const absl::Status status = model.Run(photos, output);
  EXPECT_TRUE(status.ok()) << status;
  return output;
}

BatchOutput Classify(const Model& model, const std::vector<std::vector<uint8_t>>& photos) {
  std::vector<PhotoInput> pointers;
  for (const auto& photo : photos) pointers.push_back(photo.data());
  return Classify(model, pointers);
}

class NetworkTest : public ::testing::TestWithParam<std::string> {
 protected:
  // Threads that wait for each other cost more than they bring where CTest runs tests in parallel.
  static void SetUpTestSuite() { UseThreads(1); }

  NetworkTest() { WriteFile(folder_.Path("model.safetensors"), SerializeSafeTensors(tensors_)); }

  // Null where this processor lacks the precision.
  std::unique_ptr<Model> Load(int height, int width, Engine engine,
                              Precision precision = Precision::kFp32) {
    WriteFile(folder_.Path("config.json"), MakeConfigJson(GetParam(), kClasses, height, width));
    auto model =
        LoadModel(folder_.Path(), {.device = "cpu", .precision = precision, .engine = engine});
    if (model.status().code() == absl::StatusCode::kUnimplemented) return nullptr;
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

 private:
  const dla::testing::TempDir folder_;
  const FormulaTensors tensors_ = MakeFormulaTensors(GetParam(), kClasses);
};

TEST_P(NetworkTest, FastEngineAgreesWithTheReferenceAtOddSizesAndBatches) {
  struct Case {
    int height, width, batch;
  };
  for (const Case c : {Case{223, 223, 3}, Case{96, 160, 1}, Case{32, 32, 5}, Case{31, 64, 9}}) {
    SCOPED_TRACE(absl::StrCat(c.batch, " photos of ", c.height, "x", c.width));
    const auto photos = MakeFormulaPhotos(c.batch, c.height, c.width);
    const BatchOutput reference = Classify(*Load(c.height, c.width, Engine::kReference), photos);
    for (const Engine engine : {Engine::kFast, Engine::kLibTorch}) {
      const BatchOutput fast = Classify(*Load(c.height, c.width, engine), photos);
      ASSERT_EQ(fast.logits.size(), static_cast<size_t>(c.batch * kClasses));
      EXPECT_LE(RelativeL2(fast.logits, reference.logits), 1e-5);
      EXPECT_LE(RelativeL2(fast.embeddings, reference.embeddings), 1e-5);
    }
  }
}

TEST_P(NetworkTest, PhotosOfABatchDoNotTouchEachOther) {
  const auto model = Load(64, 96, Engine::kFast);
  const auto photos = MakeFormulaPhotos(7, 64, 96);
  const BatchOutput together = Classify(*model, photos);
  const size_t embedding_size = model->info().embedding_size;
  for (size_t i = 0; i < photos.size(); ++i) {
    const BatchOutput alone = Classify(*model, std::vector<PhotoInput>{photos[i].data()});
    const absl::Span<const float> logits = together.logits;
    const absl::Span<const float> embeddings = together.embeddings;
    EXPECT_LE(RelativeL2(logits.subspan(i * kClasses, kClasses), alone.logits), 1e-5) << i;
    EXPECT_LE(RelativeL2(embeddings.subspan(i * embedding_size, embedding_size), alone.embeddings),
              1e-5)
        << i;
  }
}

// Not smaller: oneDNN's bf16 convolutions differ from run to run where images have few pixels.
TEST_P(NetworkTest, APhotoThatTheCallerNormalisedGetsTheAnswerOfItsPixels) {
  const auto photos = MakeFormulaPhotos(3, 223, 127);
  const InputSpec spec = {.height = 223, .width = 127};
  const std::vector<float> first = NormalizeFormulaPhoto(photos[0], spec);
  const std::vector<float> last = NormalizeFormulaPhoto(photos[2], spec);
  const std::vector<PhotoInput> mixed = {PhotoInput::Normalized(first.data()), photos[1].data(),
                                         PhotoInput::Normalized(last.data())};
  for (const Engine engine : {Engine::kFast, Engine::kLibTorch, Engine::kReference}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto model = Load(223, 127, engine, precision);
      if (model == nullptr) continue;
      SCOPED_TRACE(model->info().engine);
      const BatchOutput expected = Classify(*model, photos);
      const BatchOutput output = Classify(*model, mixed);
      // In bf16 a value that lies between two may be rounded the other way.
      const double tolerance = precision == Precision::kBf16 ? 1.5e-2 : 1e-5;
      EXPECT_LE(RelativeL2(output.logits, expected.logits), tolerance);
      EXPECT_LE(RelativeL2(output.embeddings, expected.embeddings), tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, NetworkTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace dla
