// `dla-client similar`, run as a user runs it, against a fake server in this process. A photo's
// bytes are the direction of its embedding, in degrees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_classifier.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string output;
  std::string errors;
};

class ClientSimilarTest : public ::testing::Test {
 protected:
  ClientSimilarTest() {
    query_ = dir_.Write("query.jpg", "0");
    for (const std::string degrees : {"10", "30", "60", "90"}) {
      dir_.Write(absl::StrCat("photos/", degrees, ".jpg"), degrees);
    }
  }

  Outcome Run(std::vector<std::string> args, SubprocessOptions options = {}) {
    options.command = {ProgramPath("dla-client"), "similar", "--server", server_.address()};
    options.command.insert(options.command.end(), args.begin(), args.end());
    options.environment = {{"LC_ALL", "C.UTF-8"}, {"TERM", "xterm"}};
    auto process = *Subprocess::Start(std::move(options));
    auto code = process->Wait();
    EXPECT_TRUE(code.ok()) << code.status();
    return {code.value_or(-1), process->output(), process->errors()};
  }

  std::string Photos() const { return dir_.Path("photos"); }
  std::string Photo(const std::string& name) const { return absl::StrCat(Photos(), "/", name); }

  TempDir dir_;
  std::string query_;
  std::atomic<int> first_of_version_2_ = 1 << 30;  // the call that the next version answers
  std::atomic<int> calls_ = 0;
  FakeClassifier server_{[this](const auto& request, auto& context, auto& response) {
    grpc::Status status = FakeClassifier::DefaultAnswer(request, context, response);
    if (!status.ok()) return status;
    const double angle = std::atof(request.image().c_str()) * M_PI / 180;
    response.mutable_classes(0)->set_label("photo");  // not the bytes, which may be no UTF-8
    response.clear_embedding();
    response.add_embedding(static_cast<float>(std::cos(angle)));
    response.add_embedding(static_cast<float>(std::sin(angle)));
    if (!request.include_embedding() || !request.normalize_embedding()) response.clear_embedding();
    if (calls_++ >= first_of_version_2_) response.set_model_version("2");
    return status;
  }};
};

TEST_F(ClientSimilarTest, TellsTheNearestPhotosFirst) {
  const Outcome outcome = Run({query_, Photos(), "--top", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output,
            absl::StrCat("  1   0.9848  ███████████████████▊  ", Photo("10.jpg"),
                         "\n  2   0.8660  █████████████████▍    ", Photo("30.jpg"),
                         "\n  3   0.5000  ██████████            ", Photo("60.jpg"), "\n"));
}

TEST_F(ClientSimilarTest, LeavesOutTheQueryItself) {
  const std::string link = Photo("../photos/30.jpg");
  const Outcome outcome = Run({link, Photos(), "--format", "csv"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output,
            absl::StrCat("rank,similarity,file\n1,0.939693,", Photo("10.jpg"), "\n2,0.866025,",
                         Photo("60.jpg"), "\n3,0.500000,", Photo("90.jpg"), "\n"));
}

TEST_F(ClientSimilarTest, TakesTheQueryFromStandardInput) {
  SubprocessOptions options;
  options.input = "90";
  const Outcome outcome = Run({"-", Photos(), "-n", "1", "-f", "json"}, options);
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output,
            absl::StrCat(R"({"query":"-","rank":1,"similarity":1.000000,"file":")", Photo("90.jpg"),
                         R"(","model":"flowers","model_version":"1"})", "\n"));
}

TEST_F(ClientSimilarTest, GoesOnAfterABadPhoto) {
  const std::string bad = dir_.Write("photos/20-bad.jpg", "bad");
  const Outcome outcome = Run({query_, Photos(), "-f", "csv", "--html", dir_.Path("x.html")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("1,0.984808,"), HasSubstr("\n4,"), Not(HasSubstr("bad"))));
  EXPECT_THAT(outcome.errors,
              StartsWith(absl::StrCat("1 of 6 photos failed:\n  ", bad, ": not an image")));
  EXPECT_TRUE(std::filesystem::exists(dir_.Path("x.html")));
}

TEST_F(ClientSimilarTest, EndsWhenTheQueryIsNoPhoto) {
  for (const std::string& query : {dir_.Write("bad.jpg", "bad"), dir_.Path("missing.jpg")}) {
    const Outcome outcome = Run({query, Photos(), "--html", dir_.Path("x.html")});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.output, "");
    EXPECT_THAT(outcome.errors, HasSubstr(absl::StrCat("the query ", query, ": ")));
    EXPECT_FALSE(std::filesystem::exists(dir_.Path("x.html")));
  }
}

TEST_F(ClientSimilarTest, SaysThatThereIsNothingToCompareWith) {
  std::filesystem::create_directory(dir_.Path("empty"));
  const Outcome outcome = Run({query_, dir_.Path("empty")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("no .jpg, .jpeg, .png or .webp file in this folder"),
                                    EndsWith("dla-client: nothing to compare with: no other photo "
                                             "was found and answered\n")));
}

TEST_F(ClientSimilarTest, EndsWhenTheModelChangesMeanwhile) {
  first_of_version_2_ = 3;
  const Outcome outcome =
      Run({query_, Photos(), "--concurrency", "1", "--html", dir_.Path("x.html")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, HasSubstr("the query was answered by flowers version 1, "));
  EXPECT_THAT(outcome.errors,
              HasSubstr("by flowers version 2, and their embeddings cannot be compared"));
  EXPECT_FALSE(std::filesystem::exists(dir_.Path("x.html")));
}

TEST_F(ClientSimilarTest, WritesASheetWithThePhotosAndEscapedNames) {
  const std::string name = "<img src=x onerror=alert(1)>.jpg";
  // The first bytes of a JPEG; the number that follows is what the fake server reads.
  dir_.Write(absl::StrCat("photos/", name), "\xff\xd8\xff\xe0");
  const Outcome outcome = Run({query_, Photos(), "--html", dir_.Path("x.html")});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  const std::string html = ReadFile(dir_.Path("x.html"));
  EXPECT_THAT(html,
              AllOf(StartsWith("<!DOCTYPE html>"), EndsWith("</html>\n"),
                    HasSubstr("data:image/jpeg;base64,/9j/4A=="), Not(HasSubstr("<img src=x")),
                    HasSubstr("&lt;img src=x onerror=alert(1)&gt;.jpg"),
                    HasSubstr("The 5 nearest of 5 photos")));
}

TEST_F(ClientSimilarTest, SaysBeforeTheWorkThatTheSheetCannotBeWritten) {
  const Outcome outcome = Run({query_, Photos(), "--html", dir_.Path("no/such/x.html")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("no/such/x.html: No such file or directory"));
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(ClientSimilarTest, WrongUsageIsToldInOneLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "QUERY is required"},
      {{query_}, "PATH is required"},
      {{"-", "-"}, "can be read only once"},
      {{query_, Photos(), "--top", "0"}, "--top"},
      {{query_, Photos(), "--format", "html"}, "--format"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("dla-client: "), HasSubstr(message)));
  }
}

}  // namespace
}  // namespace dla::testing
