// The real dla-client, run as a user runs it, against a fake server in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <future>
#include <latch>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_classifier.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string output;
  std::string errors;
};

class ClientTest : public ::testing::Test {
 protected:
  // Starts `dla-client ARGS...`; DLA_SERVER leads to `server_`.
  std::unique_ptr<Subprocess> Start(std::vector<std::string> args, SubprocessOptions options = {}) {
    options.command = {ProgramPath("dla-client")};
    options.command.insert(options.command.end(), args.begin(), args.end());
    if (options.environment.empty()) options.environment = {{"LC_ALL", "C.UTF-8"}};
    options.environment.insert(options.environment.end(),
                               {{"DLA_SERVER", server_.address()}, {"TERM", "xterm"}});
    return *Subprocess::Start(std::move(options));
  }

  Outcome Run(std::vector<std::string> args, SubprocessOptions options = {}) {
    auto process = Start(std::move(args), std::move(options));
    auto code = process->Wait();
    EXPECT_TRUE(code.ok()) << code.status();
    return {code.value_or(-1), process->output(), process->errors()};
  }

  // Writes so many photos "photo-000.jpg", ... with the bytes "0", "1", ... and returns their
  // folder.
  std::string Photos(int count) {
    for (int i = 0; i < count; ++i)
      dir_.Write(absl::StrCat("photos/photo-", i / 100, i / 10 % 10, i % 10, ".jpg"),
                 absl::StrCat(i));
    return dir_.Path("photos");
  }

  TempDir dir_;
  FakeClassifier server_;
};

TEST_F(ClientTest, ClassifiesAPhotoIntoATable) {
  const std::string photo = dir_.Write("rose.jpg", "red rose");
  const Outcome outcome = Run({"classify", photo});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output, absl::StrCat(photo, "\n",
                                         "  1   75.0%  ███████████████       red rose  n07\n"
                                         "  2   25.0%  █████                 other\n"));
  EXPECT_EQ(outcome.errors, "");
}

TEST_F(ClientTest, UsesNoBlocksWhereTheLocaleIsNotUtf8) {
  SubprocessOptions options;
  options.environment = {{"LC_ALL", "C"}};
  const Outcome outcome = Run({"classify", dir_.Write("rose.jpg", "rose")}, options);
  EXPECT_THAT(outcome.output, HasSubstr("75.0%  ###############       rose"));
}

TEST_F(ClientTest, ReadsAPhotoFromStandardInput) {
  SubprocessOptions options;
  options.input = "tulip";
  const Outcome outcome = Run({"classify", "-", "--format", "csv"}, options);
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output,
            "file,rank,index,label,id,probability\n"
            "-,1,7,tulip,n07,0.75\n"
            "-,2,1,other,,0.25\n");
}

TEST_F(ClientTest, PassesOnModelAndTopK) {
  const Outcome outcome =
      Run({"classify", dir_.Write("a.jpg", "x"), "--model", "dla34", "-k", "1", "-f", "json"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr(R"("model":"dla34")"), Not(HasSubstr("other"))));
}

TEST_F(ClientTest, PrintsManyPhotosInOrderAndSumsUp) {
  const Outcome outcome =
      Run({"classify", Photos(120), "--format", "csv", "-k", "1", "--concurrency", "16"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  std::string expected = "file,rank,index,label,id,probability\n";
  for (int i = 0; i < 120; ++i) {
    absl::StrAppend(&expected, dir_.Path("photos/photo-"), i / 100, i / 10 % 10, i % 10,
                    ".jpg,1,7,", i, ",n07,0.75\n");
  }
  EXPECT_EQ(outcome.output, expected);
  // No progress bar in a pipe.
  EXPECT_THAT(outcome.errors, ContainsRegex("^120 photos in [0-9.]+ s, [0-9.]+ images/s\n$"));
}

TEST_F(ClientTest, GoesOnAfterBadFilesAndNamesThemInTheEnd) {
  const std::string photos = Photos(3);
  const std::string bad = dir_.Write("photos/photo-000-bad.jpg", "bad\x1b[2J");
  const std::string missing = dir_.Path("missing.jpg");
  const Outcome outcome = Run({"classify", missing, photos, "--format", "json", "-k", "1"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.errors,
            absl::StrCat("2 of 5 photos failed:\n  ", missing,
                         ": cannot be opened: No such file or directory\n  ", bad,
                         ": not an image: the file begins with \"bad\"\n",
                         outcome.errors.substr(outcome.errors.rfind("3 photos in"))));
  EXPECT_THAT(outcome.output, HasSubstr(R"(missing.jpg","error":{"code":"NOT_FOUND","message":)"));
  EXPECT_THAT(outcome.output,
              HasSubstr(R"(bad.jpg","error":{"code":"INVALID_ARGUMENT","message":)"));
  EXPECT_THAT(outcome.output, HasSubstr(R"("label":"2")"));
}

TEST_F(ClientTest, NamesAtMostTwentyFailures) {
  for (int i = 0; i < 25; ++i) dir_.Write(absl::StrCat("photos/", i, ".jpg"), "bad");
  const Outcome outcome = Run({"classify", dir_.Path("photos")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("25 of 25 photos failed:\n"), HasSubstr("  ... and 5 more\n")));
  EXPECT_EQ(outcome.output, "");
}

TEST_F(ClientTest, ShowsProgressOnATerminal) {
  SubprocessOptions options;
  options.stderr_is_terminal = true;
  const Outcome outcome = Run({"classify", Photos(20), "--format", "json"}, options);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.errors, StartsWith("\r░░░"));
  EXPECT_THAT(outcome.errors, HasSubstr("  0/20\x1b[K"));
  EXPECT_THAT(outcome.errors, ContainsRegex("\r\x1b\\[K20 photos in [0-9.]+ s"));
  EXPECT_THAT(outcome.output, Not(HasSubstr("\x1b")));
}

TEST_F(ClientTest, ShowsNoProgressForAFewPhotos) {
  SubprocessOptions options;
  options.stderr_is_terminal = true;
  EXPECT_EQ(Run({"classify", Photos(4)}, options).errors, "");
}

TEST_F(ClientTest, CutsLongLabelsToTheTerminal) {
  SubprocessOptions options;
  options.stdout_is_terminal = true;
  const std::string photo = dir_.Write("a.jpg", std::string(100, 'w'));
  EXPECT_THAT(Run({"classify", photo}, options).output, HasSubstr("www…  n07\r\n"));
  EXPECT_THAT(Run({"classify", photo}).output, HasSubstr(std::string(100, 'w') + "  n07\n"));
}

TEST_F(ClientTest, SaysInOneLineThatNoServerIsThere) {
  server_.Stop();
  for (const std::string command : {"classify", "embed", "models", "model"}) {
    std::vector<std::string> args = {command};
    if (command == "classify" || command == "embed") args.push_back(Photos(50));
    if (command == "embed") args.insert(args.end(), {"--out", dir_.Path("x.npy")});
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 1) << command;
    EXPECT_EQ(outcome.errors,
              absl::StrCat("dla-client: no server is available at ", server_.address(),
                           " (Connection refused): start one with `dla-server`, or name another "
                           "with --server HOST:PORT\n"));
    EXPECT_EQ(outcome.output, "");
  }
  EXPECT_FALSE(std::filesystem::exists(dir_.Path("x.npy")));
}

TEST_F(ClientTest, NamesTheServedModelsWhenOneIsUnknown) {
  const Outcome outcome = Run({"classify", Photos(50), "--model", "resnet50"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("no model \"resnet50\"; served are flowers, dla34\n"));
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(ClientTest, OptionForTheServerWinsOverTheEnvironment) {
  FakeClassifier other;
  EXPECT_EQ(Run({"classify", dir_.Write("a.jpg", "x"), "--server", other.address()}).code, 0);
  EXPECT_EQ(other.calls(), 1);
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(ClientTest, ListsModels) {
  const Outcome outcome = Run({"models"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.output,
            "NAME     VERSION  ARCHITECTURE  CLASSES  INPUT    PRECISION  DEVICE  BATCH  REPLICAS\n"
            "flowers  1        dla46_c       2        256x224  bf16       cpu     16     2\n"
            "dla34    2        dla34         1000     256x224  bf16       cpu     16     2\n");
  EXPECT_EQ(
      Run({"models", "--format", "json"}).output,
      R"({"name":"flowers","version":"1","architecture":"dla46_c","num_classes":2,"embedding_size":4,"parameters":1070000,"input_height":224,"input_width":256,"precision":"bf16","device":"cpu","max_batch_size":16,"replicas":2})"
      "\n"
      R"({"name":"dla34","version":"2","architecture":"dla34","num_classes":1000,"embedding_size":512,"parameters":15740000,"input_height":224,"input_width":256,"precision":"bf16","device":"cpu","max_batch_size":16,"replicas":2})"
      "\n");
}

TEST_F(ClientTest, TellsAllAboutOneModel) {
  const Outcome outcome = Run({"model"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output,
              AllOf(StartsWith("name           flowers\n"), HasSubstr("parameters     1.07 M\n"),
                    EndsWith("  0  rose\n  1  tulip \\x1b[31m\n")));
  EXPECT_THAT(Run({"model", "dla34", "-f", "json"}).output,
              HasSubstr(R"("labels":["rose","tulip \u001b[31m"]})"));
}

TEST_F(ClientTest, WritesEmbeddingsAndNamesOfThePhotosThatWereAnswered) {
  Photos(12);
  dir_.Write("photos/photo-005-bad.jpg", "bad");
  const Outcome outcome =
      Run({"embed", dir_.Path("photos"), "--out", dir_.Path("x.npy"), "--concurrency", "3"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("1 of 13 photos failed:\n"),
                    HasSubstr(absl::StrCat(dir_.Path("x.npy"),
                                           ": 12 x 4 float32 by flowers version 1; names in ",
                                           dir_.Path("x.names.txt"), "\n"))));
  std::string names;
  for (int i = 0; i < 12; ++i)
    absl::StrAppend(&names, dir_.Path("photos/photo-0"), i / 10, i % 10, ".jpg\n");
  EXPECT_EQ(ReadFile(dir_.Path("x.names.txt")), names);
  const std::string matrix = ReadFile(dir_.Path("x.npy"));
  ASSERT_EQ(matrix.size(), 128 + 12 * 4 * sizeof(float));
  EXPECT_THAT(matrix, HasSubstr("'shape': (12, 4)"));
  float first_value = 0;  // the length of the photo's bytes
  for (int i = 0; i < 12; ++i) {
    std::memcpy(&first_value, matrix.data() + 128 + 16 * i, sizeof(float));
    EXPECT_EQ(first_value, i < 10 ? 1 : 2) << i;
  }
}

TEST_F(ClientTest, WritesNoEmbeddingsWhereNoPhotoWasAnswered) {
  dir_.Write("a.jpg", "bad");
  const Outcome outcome = Run({"embed", dir_.Path("a.jpg"), "--out", dir_.Path("x.npy")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("x.npy was not written\n"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.Path()), {}), 1);
}

TEST_F(ClientTest, SaysBeforeTheWorkThatTheOutputCannotBeWritten) {
  const Outcome outcome = Run({"embed", Photos(3), "--out", dir_.Path("no/such/x.npy")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("no/such/x.npy: No such file or directory"));
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(ClientTest, WrongUsageIsToldInOneLine) {
  const std::string photo = dir_.Write("a.jpg", "x");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "A command is required"},
      {{"frobnicate"}, "frobnicate"},
      {{"classify"}, "PATH is required"},
      {{"classify", photo, "--format", "xml"}, "--format"},
      {{"classify", photo, "--timeout", "nan"}, "\"nan\" is no number of seconds"},
      {{"classify", photo, "--timeout", "0"}, "\"0\" is no number of seconds"},
      {{"classify", photo, "--concurrency", "0"}, "--concurrency"},
      {{"classify", photo, "--top-k", "4294967296"}, "--top-k"},
      {{"classify", photo, "--top-k", "-1"}, "--top-k"},
      {{"classify", photo, "--max-file-size", "2G"}, "--max-file-size"},
      {{"classify", "-", "-"}, "can be read only once"},
      {{"embed", photo}, "--out is required"},
      {{"embed", photo, "--out", "x.csv"}, "\"x.csv\" does not end in .npy"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("dla-client: "), HasSubstr(message),
                                      EndsWith("(see dla-client --help)\n")));
  }
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(ClientTest, UnderstandsSizesWithUnits) {
  const std::string photo = dir_.Write("a.jpg", std::string(2000, 'x'));
  EXPECT_EQ(Run({"classify", photo, "--max-file-size", "2K"}).code, 0);
  const Outcome outcome = Run({"classify", photo, "--max-file-size", "1K"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.errors,
              HasSubstr("2000 bytes, more than the 1024 that --max-file-size allows"));
}

TEST_F(ClientTest, ExplainsItself) {
  for (const std::string command :
       {"", "classify", "embed", "similar", "bench", "models", "model"}) {
    std::vector<std::string> args = {"--help"};
    if (!command.empty()) args.insert(args.begin(), command);
    const Outcome outcome = Run(args);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.output, HasSubstr("Usage: dla-client"));
    for (size_t begin = 0; begin < outcome.output.size();) {  // on 80 columns, near enough
      const size_t end = outcome.output.find('\n', begin);
      EXPECT_LE(end - begin, 92u) << outcome.output.substr(begin, end - begin);
      begin = end + 1;
    }
  }
  EXPECT_THAT(Run({"--version"}).output, ContainsRegex("^dla-client [0-9]+\\.[0-9]+\\.[0-9]+\n$"));
}

// A server that answers two photos and keeps the others waiting until the test ends.
class InterruptTest : public ClientTest {
 protected:
  std::unique_ptr<Subprocess> StartAndInterrupt(std::vector<std::string> args,
                                                SubprocessOptions options = {}) {
    args.insert(args.end(), {"--server", stuck_.address(), "--concurrency", "4"});
    auto process = Start(args, std::move(options));
    four_are_stuck_.wait();
    process->Signal(SIGINT);
    return process;
  }

  ~InterruptTest() override { end_.set_value(); }

  std::latch four_are_stuck_{4};
  std::promise<void> end_;
  std::shared_future<void> ended_ = end_.get_future().share();
  FakeClassifier stuck_{[this](const auto& request, auto& context, auto& response) {
    if (request.image() != "0" && request.image() != "1") {
      four_are_stuck_.count_down();
      ended_.wait();
    }
    return FakeClassifier::DefaultAnswer(request, context, response);
  }};
};

TEST_F(InterruptTest, EndsTheRunAndKeepsWhatWasPrinted) {
  auto process = StartAndInterrupt({"classify", Photos(50), "--format", "json"});
  EXPECT_EQ(*process->Wait(), 130);
  EXPECT_THAT(process->output(),
              AllOf(HasSubstr(R"("label":"0")"), HasSubstr(R"("label":"1")"), EndsWith("}\n")));
  EXPECT_THAT(process->errors(), EndsWith("dla-client: interrupted after 2 of 50 photos\n"));
}

TEST_F(InterruptTest, TakesTheProgressBarOffTheScreen) {
  SubprocessOptions options;
  options.stderr_is_terminal = true;
  auto process = StartAndInterrupt({"classify", Photos(50), "--format", "json"}, options);
  EXPECT_EQ(*process->Wait(), 130);
  EXPECT_THAT(
      process->errors(),
      ContainsRegex("\r\x1b\\[K[^\r\x1b]*\r\n[^\r\x1b]*interrupted after 2 of 50 photos\r\n$"));
}

TEST_F(InterruptTest, LeavesNoHalfWrittenEmbeddings) {
  auto process = StartAndInterrupt({"embed", Photos(50), "--out", dir_.Path("x.npy")});
  EXPECT_EQ(*process->Wait(), 130);
  EXPECT_THAT(process->errors(), HasSubstr("x.npy was not written"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.Path()), {}), 1);
}

TEST_F(InterruptTest, EndsTheWaitForAPipeThatNobodyWrites) {
  std::vector<std::string> args = {"classify"};
  for (int i = 0; i < 4; ++i) args.push_back(dir_.Write(absl::StrCat(i, ".jpg"), "stuck"));
  args.push_back(dir_.Path("never-written"));
  ASSERT_EQ(mkfifo(args.back().c_str(), 0600), 0);
  args.insert(args.end(), {"--server", stuck_.address(), "--concurrency", "5"});
  auto process = Start(args);
  four_are_stuck_.wait();
  process->Signal(SIGTERM);
  EXPECT_EQ(*process->Wait(), 130);
}

TEST_F(ClientTest, EndsQuietlyWhenNobodyReadsItsOutput) {
  auto process = *Subprocess::Start(
      {.command = {"sh", "-c", "\"$0\" classify \"$1\" --server \"$2\" | head -n 1",
                   ProgramPath("dla-client"), Photos(500), server_.address()}});
  EXPECT_EQ(*process->Wait(), 0);
  EXPECT_THAT(process->errors(), Not(HasSubstr("dla-client:")));
  EXPECT_LT(server_.calls(), 400);
}

TEST_F(ClientTest, SaysThatTheDiskIsFull) {
  auto process = *Subprocess::Start(
      {.command = {"sh", "-c", "\"$0\" classify \"$1\" --server \"$2\" > /dev/full",
                   ProgramPath("dla-client"), Photos(20), server_.address()}});
  EXPECT_EQ(*process->Wait(), 1);
  EXPECT_THAT(
      process->errors(),
      HasSubstr("stopped after 0 of 20 photos: cannot write the output: No space left on device"));
}

}  // namespace
}  // namespace dla::testing
