// The real dla-quantize on real photos, and the real dla-server on what it writes.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace fs = std::filesystem;

constexpr char kRose[] = DLA_TEST_DATA "/photos/roses_1793211631.jpg";

class DlaQuantizeTest : public ::testing::Test {
 protected:
  // The exit code of `dla-quantize ARGUMENTS... --out OUT`.
  int Run(std::vector<std::string> arguments) {
    SubprocessOptions options;
    options.command = {ProgramPath("dla-quantize")};
    options.command.insert(options.command.end(), arguments.begin(), arguments.end());
    options.command.insert(options.command.end(), {"--out", out_});
    auto process = Subprocess::Start(options);
    EXPECT_TRUE(process.ok()) << process.status();
    const auto code = (*process)->Wait(absl::Seconds(120));
    EXPECT_TRUE(code.ok()) << code.status();
    output_ = (*process)->output();
    errors_ = (*process)->errors();
    return code.value_or(-1);
  }

  // 18 flowers, some of them in folders named by their class.
  void CopyPhotos() {
    for (const auto& entry : fs::directory_iterator(DLA_TEST_DATA "/photos")) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".jpg") continue;
      folder_.Write(absl::StrCat("photos/", name.substr(0, name.find('_')), "/", name),
                    ReadFile(entry.path().string()));
    }
    for (const auto& entry : fs::directory_iterator(DLA_TEST_DATA "/photos_parity")) {
      if (entry.path().extension() != ".jpg") continue;
      folder_.Write(absl::StrCat("photos/", entry.path().filename().string()),
                    ReadFile(entry.path().string()));
    }
  }

  // Refused, with nothing left behind.
  void ExpectRefused(std::vector<std::string> arguments, const std::string& reason) {
    EXPECT_EQ(Run(std::move(arguments)), 1);
    EXPECT_THAT(errors_, HasSubstr(reason));
    for (const auto& entry : fs::directory_iterator(folder_.Path("out"))) {
      ADD_FAILURE() << entry.path() << " was left behind";
    }
  }

  const TempDir folder_;
  const std::string photos_ = folder_.Path("photos");
  const std::string out_ = [this] {
    fs::create_directories(folder_.Path("out"));
    return folder_.Path("out/int8");
  }();
  std::string output_;
  std::string errors_;
};

TEST_F(DlaQuantizeTest, WritesAFolderThatTheServerServesInInt8) {
  CopyPhotos();
  ASSERT_EQ(Run({"--embedded", "--images", photos_, "--force"}), 0) << errors_;
  EXPECT_THAT(output_, AllOf(HasSubstr("level5.root.conv"), HasSubstr("top-1 agreement"),
                             HasSubstr("cosine of embeddings"), HasSubstr("labelled")));
  EXPECT_THAT(errors_, Not(HasSubstr("\x1b"))) << "a progress bar where there is no terminal";

  const auto config = nlohmann::json::parse(ReadFile(out_ + "/config.json"));
  EXPECT_EQ(config["architecture"], "dla46_c");
  const auto& quantization = config["quantization"];
  EXPECT_EQ(quantization["format"], 1);
  EXPECT_EQ(quantization["layers"].size(), 48);
  EXPECT_GE(quantization["report"]["mean_cosine"], 0.995);
  EXPECT_EQ(
      quantization["calibration_photos"].get<int>() + quantization["report"]["photos"].get<int>(),
      16);  // two of them are there twice
  const auto self_test = nlohmann::json::parse(ReadFile(out_ + "/selftest/selftest.json"));
  EXPECT_GE(self_test["photos"].size(), 1);

  SubprocessOptions options;
  options.command = {ProgramPath("dla-server"),
                     "--grpc-address",
                     "127.0.0.1:0",
                     "--http-address",
                     "127.0.0.1:0",
                     "--metrics-address",
                     "127.0.0.1:0",
                     "--calibration-cache",
                     "off",
                     "--replicas",
                     "1",
                     "--threads",
                     "1",
                     "--max-batch",
                     "1",
                     "--model",
                     "flowers=" + out_};
  auto server = Subprocess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto loaded = (*server)->WaitForLine(" loaded ");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(LogField(*loaded, "precision"), "int8");
  const auto ready = (*server)->WaitForLine(" ready ");
  ASSERT_TRUE(ready.ok()) << ready.status();
  const auto stub = v1::Classifier::NewStub(
      grpc::CreateChannel(LogField(*ready, "grpc"), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::ClassifyRequest request;
  request.set_image(ReadFile(kRose));
  v1::ClassifyResponse response;
  const grpc::Status status = stub->Classify(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.classes(0).label(), "roses");

  // An int8 folder is not quantised again, and nothing is ever overwritten.
  EXPECT_EQ(Run({"--embedded", "--images", photos_, "--force"}), 1);
  EXPECT_THAT(errors_, HasSubstr(out_ + " exists"));
  const std::string from = folder_.Path("out/from");
  fs::rename(out_, from);
  EXPECT_EQ(Run({from, "--images", photos_, "--force"}), 1);
  EXPECT_THAT(errors_, HasSubstr("is int8 already"));
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(DlaQuantizeTest, WritesNothingBelowTheThresholds) {
  CopyPhotos();
  // With these there are enough; some cannot be decoded, which does not end the run.
  const std::string more = DLA_TEST_GOLDEN "/preprocess/inputs";
  ExpectRefused({"--embedded", "--images", photos_, more, "--min-cosine", "1"},
                "the mean cosine is 0.99");
  EXPECT_THAT(output_, HasSubstr("cosine of embeddings"));
}

TEST_F(DlaQuantizeTest, WantsMoreThanAFewPhotos) {
  CopyPhotos();
  ExpectRefused({"--embedded", "--images", photos_},
                "only 16 photos to calibrate on, and at least 32 are needed");
}

TEST_F(DlaQuantizeTest, RefusesPhotosThatCannotCalibrate) {
  fs::create_directories(photos_);
  ExpectRefused({"--embedded", "--images", photos_}, "no .jpg, .jpeg, .png or .webp file");
  ExpectRefused({"--embedded", "--images", folder_.Path("none")}, "No such file");
  for (int i = 0; i < 40; ++i) folder_.Write(absl::StrCat("photos/", i, ".jpg"), ReadFile(kRose));
  ExpectRefused({"--embedded", "--images", photos_}, "39 have the same pixels as another");
  for (int i = 0; i < 40; ++i) {
    folder_.Write(absl::StrCat("photos/", i, ".jpg"), ReadFile(kRose).substr(0, 400));
  }
  ExpectRefused({"--embedded", "--images", photos_}, "of 40, 40 cannot be used, the first one ");
  // Not even --force calibrates on nothing.
  ExpectRefused({"--embedded", "--images", photos_, "--force"}, "no photo to calibrate on");
}

TEST_F(DlaQuantizeTest, RefusesAFolderThatIsNoModelOfOurs) {
  CopyPhotos();
  ExpectRefused({photos_, "--images", photos_}, "config.json does not exist");
  folder_.Write("model/config.json", R"({"architecture": "resnet50"})");
  folder_.Write("model/model.safetensors",
                absl::StrCat(std::string("\x02\0\0\0\0\0\0\0", 8), "{}"));
  ExpectRefused({folder_.Path("model"), "--images", photos_}, "resnet50");
}

TEST_F(DlaQuantizeTest, TellsWhatIsMissingOnTheCommandLine) {
  EXPECT_EQ(Run({"--images", photos_}), 2);
  EXPECT_THAT(errors_, HasSubstr("--embedded"));
  EXPECT_EQ(Run({"--embedded"}), 2);
  EXPECT_THAT(errors_, HasSubstr("--images"));
  EXPECT_EQ(Run({"--embedded", "--images", photos_, "--min-agreement", "nan"}), 2);
}

TEST_F(DlaQuantizeTest, LeavesNothingBehindWhenItIsInterrupted) {
  CopyPhotos();
  folder_.Write("photos/again.jpg", ReadFile(kRose));
  SubprocessOptions options;
  options.command = {
      ProgramPath("dla-quantize"), "--embedded", "--images", photos_, "--force", "--out", out_};
  auto process = Subprocess::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  // It then calibrates, which takes longer than a signal.
  const auto line = (*process)->WaitForLine("left out: 3 with the same pixels");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_FALSE(fs::is_empty(folder_.Path("out")));
  (*process)->Signal(SIGINT);
  const auto code = (*process)->Wait();
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 130);
  EXPECT_TRUE(fs::is_empty(folder_.Path("out")));
}

}  // namespace
}  // namespace dla::testing
