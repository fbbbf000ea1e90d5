// Reading self-tests and comparing, on a model of fixed answers.
#include "model/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_dir.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Says "tulip" with the embedding {3, 4}, whatever it sees.
class TulipModel : public Model {
 public:
  TulipModel() {
    info_.num_classes = 2;
    info_.embedding_size = 2;
    info_.input.height = info_.input.width = 8;
    info_.labels = {{.name = "rose", .id = "n0"}, {.name = "tulip", .id = "n1"}};
  }
  const ModelInfo& info() const override { return info_; }
  void PrepareThread(int) const override {}
  absl::Status Run(absl::Span<const PhotoInput>, BatchOutput& output) const override {
    output.logits = {0, logit_};
    output.embeddings = {3, 4};
    return absl::OkStatus();
  }

  void SetPrecision(const std::string& precision) { info_.precision = precision; }

  float logit_ = 1;

 private:
  ModelInfo info_;
};

class SelfTestTest : public ::testing::Test {
 protected:
  SelfTestTest() { folder_.Write("selftest/a.jpg", photo_); }

  absl::StatusOr<std::vector<SelfTestPhoto>> Read(const std::string& json) {
    folder_.Write("selftest/selftest.json", json);
    return ReadSelfTest(folder_.Path());
  }
  std::string Refusal(const std::string& json,
                      absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const absl::Status status = Read(json).status();
    EXPECT_EQ(status.code(), code) << json << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(folder_.Path() + "/selftest/"));
    return std::string(status.message());
  }
  absl::Status Run(const std::string& expectation) {
    const auto photos = Read(R"({"photos": [{"file": "a.jpg", )" + expectation + "}]}");
    EXPECT_TRUE(photos.ok()) << photos.status();
    return photos.ok() ? RunSelfTest(model_, *photos) : photos.status();
  }

  const dla::testing::TempDir folder_;
  const std::string photo_ =
      dla::testing::ReadFile(DLA_TEST_DATA "/photos/sunflowers_9558627290.jpg");
  TulipModel model_;
};

TEST_F(SelfTestTest, IsEmptyWithoutAFolder) {
  const dla::testing::TempDir other;
  const auto photos = ReadSelfTest(other.Path());
  ASSERT_TRUE(photos.ok()) << photos.status();
  EXPECT_TRUE(photos->empty());
  EXPECT_TRUE(RunSelfTest(model_, *photos).ok());
}

TEST_F(SelfTestTest, ReadsAllFields) {
  const auto photos = Read(R"({"photos": [
      {"file": "a.jpg", "top1": "tulip", "embedding": [3, 4.5], "tolerance": 0.1, "comment": 0},
      {"file": "a.jpg", "top1": 7}]})");
  ASSERT_TRUE(photos.ok()) << photos.status();
  ASSERT_EQ(photos->size(), 2u);
  EXPECT_EQ((*photos)[0].file, "a.jpg");
  EXPECT_EQ((*photos)[0].bytes, photo_);
  EXPECT_EQ((*photos)[0].top1, "tulip");
  EXPECT_THAT((*photos)[0].embedding, ElementsAre(3, 4.5));
  EXPECT_EQ((*photos)[0].tolerance, 0.1);
  EXPECT_EQ((*photos)[1].top1, "7");
  EXPECT_EQ((*photos)[1].tolerance, 0.02);
}

TEST_F(SelfTestTest, PassesByLabelIdAndIndex) {
  for (const char* top1 : {R"("tulip")", R"("n1")", R"("1")", "1"}) {
    EXPECT_TRUE(Run(absl::StrCat(R"("top1": )", top1)).ok()) << top1;
  }
}

TEST_F(SelfTestTest, FailsWithAnotherClass) {
  const absl::Status status = Run(R"("top1": "rose")");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()),
            R"(self-test photo "a.jpg": expected "rose", found "tulip" (class 1))");
  model_.logit_ = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(Run(R"("top1": "tulip")").ok());
}

TEST_F(SelfTestTest, ComparesEmbeddingsWithinTheTolerance) {
  // 0.1 off at a length of 5.
  EXPECT_TRUE(Run(R"("top1": 1, "embedding": [3, 4])").ok());
  EXPECT_TRUE(Run(R"("top1": 1, "embedding": [3, 4.1], "tolerance": 0.021)").ok());
  const absl::Status status = Run(R"("top1": 1, "embedding": [3, 4.1], "tolerance": 0.019)");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("\"a.jpg\""), HasSubstr("distance of 0.019"), HasSubstr("0.0197")));
  EXPECT_THAT(std::string(Run(R"("top1": 1, "embedding": [3, 4, 0])").message()),
              HasSubstr("3 values, found one of 2"));
}

TEST_F(SelfTestTest, RefusesWhatIsNoPhoto) {
  folder_.Write("selftest/a.jpg", "no photo");
  const absl::Status status = Run(R"("top1": 1)");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("self-test photo \"a.jpg\""));
}

TEST_F(SelfTestTest, RefusesBrokenDescriptions) {
  const auto photo = [](const std::string& fields) { return R"({"photos": [{)" + fields + "}]}"; };
  EXPECT_THAT(Refusal(R"({"photos": [)"), HasSubstr("not valid JSON"));
  for (const char* json : {"[]", "{}", R"({"photos": []})", R"({"photos": {}})",
                           R"({"photos": [{"file": "a.jpg", "top1": 1}], "more": 1})"}) {
    EXPECT_THAT(Refusal(json), HasSubstr("must be {\"photos\""));
  }
  std::string many = R"({"photos": [)";
  for (int i = 0; i < 64; ++i) many += R"({"file": "a.jpg", "top1": 1},)";
  EXPECT_THAT(Refusal(many + R"({"file": "a.jpg", "top1": 1}]})"), HasSubstr("1 to 64 photos"));
  EXPECT_THAT(Refusal(R"({"photos": [1]})"), HasSubstr("photo 0: it must be an object"));
  EXPECT_THAT(Refusal(photo(R"("top1": 1)")), HasSubstr("file is \"\""));
  EXPECT_THAT(Refusal(photo(R"("file": "a.jpg")")), HasSubstr("top1 must be"));
  EXPECT_THAT(Refusal(photo(R"("file": "a.jpg", "top1": -1)")), HasSubstr("top1 must be"));
  EXPECT_THAT(Refusal(photo(R"("file": "a.jpg", "top1": 1, "tolerence": 1)")),
              HasSubstr("unknown field \"tolerence\""));
  for (const char* tolerance : {"0", "-1", "1.1", "\"x\"", "null"}) {
    EXPECT_THAT(Refusal(photo(absl::StrCat(R"("file": "a", "top1": 1, "tolerance": )", tolerance))),
                HasSubstr("tolerance must be"));
  }
  for (const char* embedding : {"[]", "1", "[null]", "[1e99]", "[[1]]"}) {
    EXPECT_THAT(Refusal(photo(absl::StrCat(R"("file": "a", "top1": 1, "embedding": )", embedding))),
                HasSubstr("embedding must"));
  }
}

TEST_F(SelfTestTest, GrantsAnInt8NetworkMore) {
  // 0.09 off, where the self-test was written for float.
  const std::string expectation = R"("top1": 1, "embedding": [3, 3.55])";
  EXPECT_EQ(Run(expectation).code(), absl::StatusCode::kFailedPrecondition);
  model_.SetPrecision("int8");
  EXPECT_TRUE(Run(expectation).ok());
  EXPECT_EQ(Run(R"("top1": 1, "embedding": [3, 3.4])").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Run(R"("top1": 1, "embedding": [3, 3.4], "tolerance": 0.2)").ok());
}

TEST_F(SelfTestTest, ReadsNothingOutsideItsFolder) {
  folder_.Write("a.jpg", photo_);
  for (const char* file : {"../a.jpg", "/etc/passwd", "..", ".", "", "sub/a.jpg"}) {
    EXPECT_THAT(Refusal(absl::StrCat(R"({"photos": [{"top1": 1, "file": ")", file, "\"}]}")),
                AllOf(HasSubstr(absl::StrCat("file is \"", file)), HasSubstr("without any \"/\"")));
  }
}

TEST_F(SelfTestTest, NamesAMissingFile) {
  EXPECT_THAT(Refusal(R"({"photos": [{"file": "b.jpg", "top1": 1}]})", absl::StatusCode::kNotFound),
              HasSubstr("/selftest/b.jpg does not exist"));
  const dla::testing::TempDir other;
  other.Write("selftest/a.jpg", photo_);
  const absl::Status status = ReadSelfTest(other.Path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/selftest/selftest.json does not exist"));
}

}  // namespace
}  // namespace dla
