// The real dla-client against the real dla-server with the embedded model, on real photos.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kPhotos[] = DLA_TEST_DATA "/photos";
constexpr int kPhotoCount = 8;

class EndToEndTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = *Subprocess::Start(
        {.command = {ProgramPath("dla-server"), "--grpc-address", "127.0.0.1:0", "--http-address",
                     "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--calibrate=false"}});
    auto ready = server_->WaitForLine(" ready ");
    ASSERT_TRUE(ready.ok()) << ready.status();
    address_ = LogField(*ready, "grpc");
  }

  std::unique_ptr<Subprocess> Client(std::vector<std::string> args) {
    args.insert(args.begin(), ProgramPath("dla-client"));
    return *Subprocess::Start({.command = args, .environment = {{"DLA_SERVER", address_}}});
  }

  TempDir dir_;
  std::unique_ptr<Subprocess> server_;
  std::string address_;
};

TEST_F(EndToEndTest, ClassifiesPhotosOfFlowers) {
  auto client = Client({"classify", kPhotos, "--format", "csv", "--top-k", "1"});
  ASSERT_EQ(*client->Wait(), 0) << client->errors();
  const std::vector<std::string> lines = absl::StrSplit(client->output(), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 1u + kPhotoCount);
  // The photos are named by what they show: "roses_1793211631.jpg".
  int right = 0;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> fields = absl::StrSplit(lines[i], ',');
    ASSERT_EQ(fields.size(), 6u) << lines[i];
    const std::string name = std::filesystem::path(fields[0]).filename();
    right += absl::StartsWith(name, absl::StrCat(fields[3], "_"));
  }
  EXPECT_GE(right, 6) << client->output();
}

TEST_F(EndToEndTest, GoesOnAfterAFileThatIsNoPhoto) {
  const std::string text = absl::StrCat(kPhotos, "/ATTRIBUTION.csv");
  auto client = Client({"classify", text, kPhotos});
  EXPECT_EQ(*client->Wait(), 1);
  EXPECT_THAT(client->output(), HasSubstr("tulips"));
  EXPECT_THAT(client->errors(), AllOf(HasSubstr("1 of 9 photos failed:\n"),
                                      HasSubstr("ATTRIBUTION.csv: not a photo")));
}

TEST_F(EndToEndTest, WritesEmbeddings) {
  auto client = Client({"embed", kPhotos, "--out", dir_.Path("x.npy")});
  ASSERT_EQ(*client->Wait(), 0) << client->errors();
  const std::string matrix = ReadFile(dir_.Path("x.npy"));
  EXPECT_THAT(matrix, HasSubstr("'shape': (8, 256)"));
  EXPECT_EQ(matrix.size(), 128 + kPhotoCount * 256 * sizeof(float));
}

TEST_F(EndToEndTest, ListsTheEmbeddedModel) {
  auto client = Client({"model", "flowers5"});
  ASSERT_EQ(*client->Wait(), 0) << client->errors();
  EXPECT_THAT(client->output(), AllOf(HasSubstr("dla46_c"), HasSubstr("  3  sunflowers\n")));
}

TEST_F(EndToEndTest, ServerEndsWellAfterTheClientDid) {
  EXPECT_EQ(*Client({"models"})->Wait(), 0);
  server_->Signal(SIGTERM);
  EXPECT_EQ(*server_->Wait(), 0) << server_->errors();
}

TEST_F(EndToEndTest, FindsAPhotoOfTheSameFlowerAsTheMostSimilarOne) {
  std::string rose;
  for (const auto& entry : std::filesystem::directory_iterator(kPhotos)) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "roses_") && (rose.empty() || entry.path() < rose)) {
      rose = entry.path();
    }
  }
  const std::string html = dir_.Path("similar.html");
  auto client = Client({"similar", rose, kPhotos, "--format", "csv", "--html", html});
  ASSERT_EQ(*client->Wait(), 0) << client->errors();
  const std::vector<std::string> lines = absl::StrSplit(client->output(), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), size_t{kPhotoCount});  // a header, and all but the query
  EXPECT_THAT(lines[1], HasSubstr("/roses_")) << client->output();
  EXPECT_THAT(ReadFile(html), HasSubstr("data:image/jpeg;base64,/9j/"));
}

TEST_F(EndToEndTest, IsMeasuredUnderBothKindsOfLoad) {
  for (const std::vector<std::string>& load :
       {std::vector<std::string>{"--concurrency", "4"}, {"--rate", "200"}}) {
    std::vector<std::string> args = {"bench",    kPhotos, "--requests", "40",
                                     "--warmup", "0",     "--embedding"};
    args.insert(args.end(), load.begin(), load.end());
    auto client = Client(args);
    EXPECT_EQ(*client->Wait(), 0) << client->errors();
    EXPECT_THAT(client->output(),
                AllOf(HasSubstr("flowers5 version 1 at "), HasSubstr("\nanswered  40  "),
                      HasSubstr("in the server, mean: decode ")));
  }
}

}  // namespace
}  // namespace dla::testing
