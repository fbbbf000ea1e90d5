// int8 networks with LibTorch: the simulation that judges them, how they are made and loaded.
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "model/aten_network.h"
#include "model/checkpoint.h"
#include "model/dla_model.h"
#include "model/graph_network.h"
#include "model/int8_conv.h"
#include "model/photo_agreement.h"
#include "model/quantized_checkpoint.h"
#include "model/quantized_source.h"
#include "model/quantizer.h"
#include "model/self_test.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"
#include "tests/support/variants.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kClasses = 5;
constexpr int kSize = 64;

// A model of formula weights on the disk, and photos that calibrate it.
struct FormulaModel {
  explicit FormulaModel(const std::string& variant) {
    WriteModelFolder(folder.Path(), MakeConfigJson(variant, kClasses, kSize, kSize),
                     MakeFormulaTensors(variant, kClasses));
    files = ReadModelFiles(folder.Path()).value();
    for (int i = 0; i < 8; ++i) {
      pixels.push_back(MakeFormulaPhoto(absl::StrCat("photo", i), kSize, kSize));
      photos.emplace_back(pixels.back().data());
    }
  }

  std::vector<float> operator()(const std::string& name) const {
    return ToFloats(*files.checkpoint.Find(name));
  }

  BatchOutput Run(const Network& network) const {
    BatchOutput output;
    output.logits.resize(photos.size() * kClasses);
    output.embeddings.resize(photos.size() * files.layout.embedding_size);
    network.Run(photos, output.logits.data(), output.embeddings.data());
    return output;
  }

  const dla::testing::TempDir folder;
  ModelFiles files;
  std::vector<std::vector<uint8_t>> pixels;
  std::vector<PhotoInput> photos;
};

class Int8OfEachVariantTest : public ::testing::TestWithParam<std::string> {};

TEST_P(Int8OfEachVariantTest, IsTheFloatNetworkWithoutAQuantization) {
  const FormulaModel model(GetParam());
  const InputSpec& input = model.files.config.input;
  const BatchOutput expected =
      model.Run(AtenNetwork(model.files.layout, model, input, MakeReferenceBackend(at::kFloat)));
  const BatchOutput found = model.Run(GraphNetwork(model.files.layout, model, input, nullptr));
  EXPECT_LT(RelativeL2(found.embeddings, expected.embeddings), 1e-5);
  EXPECT_LT(RelativeL2(found.logits, expected.logits), 1e-5);
}

TEST_P(Int8OfEachVariantTest, StaysCloseToTheFloatNetworkOnceItIsQuantised) {
  const FormulaModel model(GetParam());
  const auto quantized = QuantizeModel(model.files, model.photos, {.threads = 2, .scan_photos = 0});
  ASSERT_TRUE(quantized.ok()) << quantized.status();
  const InputSpec& input = model.files.config.input;
  const BatchOutput exact = model.Run(GraphNetwork(model.files.layout, model, input, nullptr));
  const BatchOutput int8 =
      model.Run(GraphNetwork(model.files.layout, model, input, &quantized->quantization));
  const Agreement agreement = CompareAnswers(exact, int8, 8, {});
  EXPECT_GT(agreement.worst_cosine, 0.98);
  EXPECT_LT(agreement.worst_cosine, 0.9999999) << "is anything rounded?";
  for (const LayerCost& layer : quantized->layers) EXPECT_TRUE(layer.is_int8) << layer.conv;
}

INSTANTIATE_TEST_SUITE_P(Variants, Int8OfEachVariantTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& test) { return test.param; });

TEST(GraphNetworkTest, AConvolutionIsThatOfWholeNumbers) {
  const ConvLayout layout{"c", "n", /*in=*/4, /*out=*/2, /*kernel=*/3, /*stride=*/2, /*groups=*/2};
  Int8Conv conv;
  for (int i = 0; i < 2 * 2 * 9; ++i)
    conv.weight.push_back(static_cast<int8_t>(i * 37 % 255 - 127));
  conv.scale = {0.25F, 0.001F};
  conv.bias = {3, -40};
  const std::vector<float> steps = {0.5F, 0.125F, 3, 0.01F};
  GraphOp op;
  op.conv = layout;
  op.inputs = {{0, 0, 4}};

  // Whole numbers q of 5 x 5 pixels.
  auto q = [](int channel, int y, int x) { return (channel * 91 + y * 57 + x * 13) % 256; };
  at::Tensor input = at::empty({1, 4, 5, 5}, at::kFloat);
  for (int i = 0; i < 100; ++i) {
    input.mutable_data_ptr<float>()[i] =
        static_cast<float>(q(i / 25, i / 5 % 5, i % 5)) * steps[i / 25];
  }
  const at::Tensor found = RunOp(op, {input}, [&] {
    static ConvTensors tensors;
    tensors = MakeConvTensors(Dequantize(layout, conv, steps));
    return &tensors;
  }());

  for (int out = 0; out < 2; ++out) {
    for (int y = 0; y < 3; ++y) {
      for (int x = 0; x < 3; ++x) {
        int64_t sum = 0;
        for (int i = 0; i < 2 * 9; ++i) {
          const int from_y = 2 * y + i % 9 / 3 - 1;
          const int from_x = 2 * x + i % 3 - 1;
          if (from_y < 0 || from_y > 4 || from_x < 0 || from_x > 4) continue;
          sum += conv.weight[out * 18 + i] * q(2 * out + i / 9, from_y, from_x);
        }
        const float expected =
            std::max(0.0F, conv.scale[out] * static_cast<float>(sum) + conv.bias[out]);
        EXPECT_NEAR(found.const_data_ptr<float>()[out * 9 + y * 3 + x], expected,
                    1e-5 * std::abs(expected) + 1e-3);
      }
    }
  }
}

TEST(GraphNetworkTest, RoundsTiesToEvenAndSaturates) {
  const std::vector<float> values = {-1, 0.24F, 0.25F, 0.75F, 1.25F, 127.4F, 200};
  at::Tensor x = at::empty({7}, at::kFloat);
  std::copy(values.begin(), values.end(), x.mutable_data_ptr<float>());
  at::Tensor y = x.clone();
  RoundTo(x, 0.5F, /*is_signed=*/false);
  const float unsigned_values[] = {0, 0, 0, 1, 1, 127.5F, 127.5F};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(x.const_data_ptr<float>()[i], unsigned_values[i]) << i;
  RoundTo(y, 0.5F, /*is_signed=*/true);
  const float signed_values[] = {-1, 0, 0, 1, 1, 63.5F, 63.5F};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(y.const_data_ptr<float>()[i], signed_values[i]) << i;
}

TEST(QuantizeModelTest, LeavesALayerFloatThatDoesHarm) {
  const std::string variant = "dla46_c";
  FormulaModel model(variant);
  // One channel becomes 10,000 times larger than the others of its value, and the layer that reads
  // it takes that back: the same network, but no step fits both.
  FormulaTensors tensors = MakeFormulaTensors(variant, kClasses);
  auto scale = [&tensors](const std::string& name, size_t index, float factor) {
    uint8_t* bytes = tensors.at(name).bytes.data() + index * sizeof(float);
    float value;
    std::memcpy(&value, bytes, sizeof(value));
    value *= factor;
    std::memcpy(bytes, &value, sizeof(value));
  };
  scale("level4.tree2.tree2.bn1.weight", 3, 10000);
  scale("level4.tree2.tree2.bn1.bias", 3, 10000);
  const auto& shape = tensors.at("level4.tree2.tree2.conv2.weight").shape;
  for (int64_t out = 0; out < shape[0]; ++out) {
    for (int64_t i = 0; i < 9; ++i) {
      scale("level4.tree2.tree2.conv2.weight", (out * shape[1] + 3) * 9 + i, 1e-4F);
    }
  }
  WriteModelFolder(model.folder.Path(), MakeConfigJson(variant, kClasses, kSize, kSize), tensors);
  model.files = ReadModelFiles(model.folder.Path()).value();

  const auto quantized = QuantizeModel(model.files, model.photos, {.scan_photos = 4});
  ASSERT_TRUE(quantized.ok()) << quantized.status();
  for (const LayerCost& layer : quantized->layers) {
    EXPECT_EQ(layer.is_int8, layer.conv != "level4.tree2.tree2.conv2") << layer.conv;
    EXPECT_GT(layer.error, 0) << layer.conv;
    EXPECT_GE(layer.worst, layer.error) << layer.conv;
  }
  EXPECT_FALSE(quantized->quantization.convs.contains("level4.tree2.tree2.conv2"));
  // Nobody reads that value in int8 any more.
  EXPECT_FALSE(quantized->quantization.steps.contains("level4.tree2.tree2.conv1"));
  EXPECT_TRUE(quantized->quantization.steps.contains("level4.tree2.tree2.conv2"));
}

TEST(QuantizeModelTest, SaysSoWhereEveryLayerDoesHarm) {
  const FormulaModel model("dla46_c");
  const auto quantized =
      QuantizeModel(model.files, model.photos, {.scan_photos = 1, .most_error = 1e-9});
  EXPECT_EQ(quantized.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(QuantizeModelTest, TellsItsProgressUpToTheEnd) {
  const FormulaModel model("dla46_c");
  std::vector<std::string> last;
  QuantizerOptions options{.threads = 2, .scan_photos = 8};
  options.progress = [&last](const char* stage, int64_t done, int64_t total) {
    if (done == total) last.push_back(stage);
  };
  ASSERT_TRUE(QuantizeModel(model.files, model.photos, options).ok());
  EXPECT_THAT(last, ::testing::ElementsAre("calibrate", "scan"));
}

class Int8FolderTest : public ::testing::Test {
 protected:
  // As dla-quantize writes it.
  void Write() {
    const auto quantized = QuantizeModel(model_.files, model_.photos, {.scan_photos = 1});
    folder_.Write("model.safetensors",
                  SerializeSafeTensors(QuantizedTensors(
                      model_.files.layout, quantized->quantization, model_.files.checkpoint)));
    std::string config = model_.files.config_text;
    config.insert(1, "\"quantization\": {\"format\": 1}, ");
    folder_.Write("config.json", config);
  }

  BatchOutput Answers(const absl::StatusOr<std::unique_ptr<Model>>& model) {
    BatchOutput output;
    EXPECT_TRUE(model.ok()) << model.status();
    EXPECT_TRUE(!model.ok() || (*model)->Run(model_.photos, output).ok());
    return output;
  }

  const FormulaModel model_{"dla46x_c"};
  const dla::testing::TempDir folder_;
};

TEST_F(Int8FolderTest, ServesAsInt8WithoutBeingAsked) {
  Write();
  const auto model = LoadModel(folder_.Path(), {});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().precision, "int8");
  const BatchOutput exact =
      Answers(LoadModel(model_.folder.Path(), {.precision = Precision::kFp32}));
  EXPECT_GT(CompareAnswers(exact, Answers(model), 8, {}).worst_cosine, 0.99);
  EXPECT_EQ(Answers(LoadModel(folder_.Path(), {.precision = Precision::kInt8})).logits,
            Answers(model).logits);
}

TEST_F(Int8FolderTest, IsRefusedInAnotherPrecision) {
  Write();
  const absl::Status status = LoadModel(folder_.Path(), {.precision = Precision::kFp32}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is int8"));
}

TEST_F(Int8FolderTest, RunsInFloatWithTheSameWeightsWhereThereAreNoInt8Kernels) {
  Write();
  const auto model = LoadModel(folder_.Path(), {.engine = Engine::kLibTorch});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().precision, "int8");
  EXPECT_THAT((*model)->info().engine, HasSubstr("libtorch"));
  const BatchOutput exact =
      Answers(LoadModel(model_.folder.Path(), {.precision = Precision::kFp32}));
  EXPECT_GT(CompareAnswers(exact, Answers(model), 8, {}).worst_cosine, 0.99);
}

TEST_F(Int8FolderTest, IsNotQuantisedAgain) {
  Write();
  const auto files = ReadModelFiles(folder_.Path());
  ASSERT_TRUE(files.ok()) << files.status();
  const absl::Status status = QuantizeModel(*files, model_.photos, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is int8 already"));
}

TEST_F(Int8FolderTest, WantsTheConfigThatWasWrittenWithIt) {
  Write();
  folder_.Write("config.json", model_.files.config_text);
  EXPECT_THAT(std::string(LoadModel(folder_.Path(), {}).status().message()),
              AllOf(HasSubstr("base_layer.0.weight\" is I8"), HasSubstr("no \"quantization\"")));
}

TEST_F(Int8FolderTest, OfANewerFormatIsRefused) {
  Write();
  folder_.Write("config.json",
                "{\"architecture\": \"dla46x_c\", \"quantization\": {\"format\": 2}}");
  EXPECT_THAT(std::string(LoadModel(folder_.Path(), {}).status().message()),
              AllOf(HasSubstr("quantization.format is 2"), HasSubstr("must be 1")));
}

std::string Photo(const std::filesystem::path& path) { return testing::ReadFile(path.string()); }

TEST(Int8AtLoadTest, QuantisesAFloatFolderThatHasPhotos) {
  const FormulaModel model("dla46x_c");
  std::vector<std::string> photos;
  for (const char* folder : {"photos", "photos_parity"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(absl::StrCat(DLA_TEST_DATA "/", folder))) {
      if (entry.path().extension() == ".jpg") photos.push_back(Photo(entry.path()));
    }
  }
  ASSERT_GE(photos.size(), 16);
  LoadOptions options{.precision = Precision::kInt8};
  options.calibration_threads = 2;

  options.calibration_photos = [&] { return photos; };
  const std::string refusal(LoadModel(model.folder.Path(), options).status().message());
  EXPECT_THAT(refusal, AllOf(HasSubstr("32 are needed"),
                             HasSubstr("dla-quantize " + model.folder.Path() + " --images")));

  const std::vector<std::string> once = photos;
  photos.insert(photos.end(), once.begin(), once.end());
  const auto loaded = LoadModel(model.folder.Path(), options);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->info().precision, "int8");

  photos.back() = "no photo";
  EXPECT_THAT(std::string(LoadModel(model.folder.Path(), options).status().message()),
              HasSubstr(absl::StrCat("calibration photo ", photos.size(), ": ")));
}

TEST(Int8AtLoadTest, NamesTheCommandThatMakesAnInt8Folder) {
  const FormulaModel model("dla46x_c");
  const absl::Status status =
      LoadModel(model.folder.Path(), {.precision = Precision::kInt8}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("dla-quantize"));
}

TEST(EmbeddedInt8Test, AnswersAsTheFloatModelDoes) {
  const auto model = LoadEmbeddedModel({.precision = Precision::kInt8});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().precision, "int8");
  const absl::Status tested = RunSelfTest(**model, EmbeddedSelfTest().value());
  EXPECT_TRUE(tested.ok()) << tested;
}

}  // namespace
}  // namespace dla
