#include "model/dla_model.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kClasses = 5;
constexpr int kHeight = 64;
constexpr int kWidth = 96;

class DlaModelTest : public ::testing::Test {
 protected:
  void Write() { WriteModelFolder(folder_.Path(), config_, tensors_); }

  absl::StatusOr<std::unique_ptr<Model>> Load(const LoadOptions& options = {}) {
    return LoadModel(folder_.Path(), options);
  }

  // Writes, then loads, to see it refused.
  std::string Refusal(absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    Write();
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(folder_.Path()));
    return std::string(status.message());
  }

  static BatchOutput Classify(const Model& model, int first_photo, int count) {
    std::vector<std::vector<uint8_t>> photos;
    std::vector<PhotoInput> pointers;
    for (int i = 0; i < count; ++i) {
      photos.push_back(MakeFormulaPhoto(absl::StrCat("photo", first_photo + i), kHeight, kWidth));
      pointers.push_back(photos.back().data());
    }
    BatchOutput output;
    const absl::Status status = model.Run(pointers, output);
    EXPECT_TRUE(status.ok()) << status;
    return output;
  }

  const dla::testing::TempDir folder_;
  std::string config_ = MakeConfigJson("dla46_c", kClasses, kHeight, kWidth);
  FormulaTensors tensors_ = MakeFormulaTensors("dla46_c", kClasses);
};

TEST_F(DlaModelTest, SaysWhatItIs) {
  Write();
  const auto model = Load({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.architecture, "dla46_c");
  EXPECT_EQ(info.precision, "fp32");
  EXPECT_EQ(info.device, "cpu");
  EXPECT_EQ(info.num_classes, kClasses);
  EXPECT_EQ(info.embedding_size, 256);
  EXPECT_EQ(info.input.height, kHeight);
  EXPECT_EQ(info.input.width, kWidth);
  EXPECT_EQ(info.input.mean[2], 0.406f);
}

TEST_F(DlaModelTest, ChoosesAPrecisionByItself) {
  Write();
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT((*model)->info().precision, AnyOf("fp32", "bf16"));
}

TEST_F(DlaModelTest, KeepsNothingOfTheFile) {
  Write();
  const auto model = Load({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  const BatchOutput before = Classify(**model, 0, 2);
  // In place, so that a mapping of the file that was kept would change or fault.
  const std::string path = folder_.Path("model.safetensors");
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(Classify(**model, 0, 2).logits, before.logits);
}

TEST_F(DlaModelTest, ReadsHalfPrecision) {
  Write();
  const BatchOutput expected = Classify(**Load({.precision = Precision::kFp32}), 0, 1);
  for (const auto& [dtype, tolerance] : {std::pair(DType::kF16, 1e-3), {DType::kBF16, 1e-2}}) {
    tensors_ = MakeFormulaTensors("dla46_c", kClasses, dtype);
    Write();
    const auto model = Load({.precision = Precision::kFp32});
    ASSERT_TRUE(model.ok()) << model.status();
    const double error = RelativeL2(Classify(**model, 0, 1).logits, expected.logits);
    EXPECT_LE(error, tolerance) << DTypeName(dtype);
    EXPECT_GT(error, 0) << DTypeName(dtype);  // it was rounded
  }
}

TEST_F(DlaModelTest, ReusesTheOutputOfABiggerBatch) {
  Write();
  const auto model = Load({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  const BatchOutput expected = Classify(**model, 3, 1);
  BatchOutput output = Classify(**model, 0, 6);
  const auto photo = MakeFormulaPhoto("photo3", kHeight, kWidth);
  ASSERT_TRUE((*model)->Run({photo.data()}, output).ok());
  EXPECT_EQ(output.logits, expected.logits);
  EXPECT_EQ(output.embeddings, expected.embeddings);
}

TEST_F(DlaModelTest, ThreadsThatShareItGetTheSameAnswersAsOne) {
  Write();
  const auto loaded = Load({.precision = Precision::kFp32});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Model& model = **loaded;
  model.PrepareThread(1);
  std::vector<BatchOutput> expected;
  for (int i = 0; i < 4; ++i) expected.push_back(Classify(model, i, i + 1));

  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      model.PrepareThread(1);
      for (int repeat = 0; repeat < 5; ++repeat) {
        const BatchOutput output = Classify(model, i, i + 1);
        EXPECT_EQ(output.logits, expected[i].logits);
        EXPECT_EQ(output.embeddings, expected[i].embeddings);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(DlaModelTest, AnswersTheSameWithMoreComputeThreads) {
  Write();
  const auto model = Load({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  BatchOutput outputs[2];
  for (const int compute_threads : {1, 3}) {
    std::thread([&] {
      (*model)->PrepareThread(compute_threads);
      outputs[compute_threads / 2] = Classify(**model, 0, 15);
    }).join();
  }
  EXPECT_LE(RelativeL2(outputs[1].logits, outputs[0].logits), 1e-5);
  EXPECT_LE(RelativeL2(outputs[1].embeddings, outputs[0].embeddings), 1e-5);
}

TEST_F(DlaModelTest, EachThreadHasItsOwnNumberOfComputeThreads) {
  Write();
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  std::thread([&] {
    (*model)->PrepareThread(1);
    std::thread([&] {
      (*model)->PrepareThread(3);
      EXPECT_EQ(at::get_num_threads(), 3);
    }).join();
    EXPECT_EQ(at::get_num_threads(), 1);
  }).join();
}

TEST_F(DlaModelTest, LeavesTheThreadThatLoadsAsItWas) {
  Write();
  std::thread([&] {
    UseThreads(3);
    EXPECT_TRUE(Load().ok());
    EXPECT_EQ(at::get_num_threads(), 3);
  }).join();
}

TEST_F(DlaModelTest, BringsAModelOfItsOwn) {
  const auto model = LoadEmbeddedModel({.precision = Precision::kFp32});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.architecture, "dla46_c");
  EXPECT_EQ(info.num_classes, 5);
  ASSERT_EQ(info.labels.size(), 5u);
  EXPECT_EQ(info.labels[3].name, "sunflowers");

  const auto photo = MakeFormulaPhoto("photo0", info.input.height, info.input.width);
  BatchOutput output;
  ASSERT_TRUE((*model)->Run({photo.data()}, output).ok());
  EXPECT_EQ(output.logits.size(), 5u);
}

TEST_F(DlaModelTest, NamesTheFileThatIsMissing) {
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr(folder_.Path("config.json")));
  EXPECT_EQ(LoadModel("/nowhere", {}).status().code(), absl::StatusCode::kNotFound);

  WriteFile(folder_.Path("config.json"), config_);
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr(folder_.Path("model.safetensors")));
}

TEST_F(DlaModelTest, TellsHowToSaveWhatIsOnlyThereAsAPickle) {
  WriteFile(folder_.Path("config.json"), config_);
  WriteFile(folder_.Path("pytorch_model.bin"), "");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("safe_serialization=True"));
}

TEST_F(DlaModelTest, RefusesAConfigThatIsAFolder) {
  std::filesystem::create_directories(folder_.Path("config.json"));
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kInvalidArgument) << Load().status();
}

TEST_F(DlaModelTest, NamesTheUnknownArchitecture) {
  config_ = MakeConfigJson("resnet50", kClasses, kHeight, kWidth);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("\"resnet50\""), HasSubstr("dla60_res2next")));
}

TEST_F(DlaModelTest, NamesTheInputSizeThatTheNetworkCannotTake) {
  config_ = MakeConfigJson("dla46_c", kClasses, 225, 224);
  EXPECT_THAT(Refusal(), HasSubstr("225x224"));
}

TEST_F(DlaModelTest, NamesTheTensorsThatDoNotFit) {
  tensors_.erase("level5.tree1.bn3.weight");
  tensors_["extra"] = MakeFormulaTensor("extra", {1});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("\"level5.tree1.bn3.weight\" is missing"),
                               HasSubstr("\"extra\" is left over")));
}

TEST_F(DlaModelTest, NamesTheHeadOfAnotherNumberOfClasses) {
  config_ = MakeConfigJson("dla46_c", 10, kHeight, kWidth);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("\"fc.weight\" is [5, 256, 1, 1]"),
                               HasSubstr("should be [10, 256, 1, 1]")));
}

TEST_F(DlaModelTest, NamesTheTensorWithAValueThatCannotBe) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(tensors_.at("fc.bias").bytes.data(), &nan, sizeof(nan));
  EXPECT_THAT(Refusal(), HasSubstr("\"fc.bias\""));
  const float negative = -0.5f;
  std::memcpy(tensors_.at("level1.1.running_var").bytes.data(), &negative, sizeof(negative));
  EXPECT_THAT(Refusal(), HasSubstr("\"level1.1.running_var\""));
}

TEST_F(DlaModelTest, RefusesDevicesAndPrecisionsThatThisMachineLacks) {
  Write();
  for (const char* device : {"cuda:7", "cuda:0,99"}) {
    const absl::Status status = Load({.device = device}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("cuda:"));
  }
  EXPECT_EQ(Load({.device = "tpu"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Load({.device = "cpu", .precision = Precision::kFp16}).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace dla
