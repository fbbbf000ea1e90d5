#include "tests/support/subprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>
#include <string>

namespace dla::testing {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Subprocess> Shell(const std::string& script, SubprocessOptions options = {}) {
  options.command = {"sh", "-c", script};
  return *Subprocess::Start(std::move(options));
}

TEST(SubprocessTest, CollectsBothStreamsAndTheExitCode) {
  auto process = Shell("echo out; echo err >&2; exit 7");
  EXPECT_EQ(*process->Wait(), 7);
  EXPECT_EQ(process->output(), "out\n");
  EXPECT_EQ(process->errors(), "err\n");
}

TEST(SubprocessTest, FeedsMoreInputThanAPipeHoldsAndDrainsAsMuchOutput) {
  SubprocessOptions options;
  options.input = std::string(3 << 20, 'x');
  auto process = Shell("cat", options);
  EXPECT_EQ(*process->Wait(), 0);
  EXPECT_EQ(process->output(), options.input);
}

TEST(SubprocessTest, ProgramMayEndWithoutReadingItsInput) {
  SubprocessOptions options;
  options.input = std::string(3 << 20, 'x');
  auto process = Shell("exec <&-; exit 3", options);
  EXPECT_EQ(*process->Wait(), 3);
}

TEST(SubprocessTest, FindsALineWhileTheProgramRuns) {
  auto process = Shell("echo starting; echo now ready grpc=127.0.0.1:1 >&2; exec sleep 1000");
  EXPECT_EQ(*process->WaitForLine(" ready "), "now ready grpc=127.0.0.1:1");
  EXPECT_EQ(*process->WaitForLine("starting"), "starting");
  process->Signal(SIGTERM);
  EXPECT_EQ(*process->Wait(), 128 + SIGTERM);
}

TEST(SubprocessTest, SaysWhatWasPrintedWhenTheLineDoesNotCome) {
  auto ended = Shell("echo no such model >&2; exit 1")->WaitForLine("ready");
  EXPECT_EQ(ended.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(ended.status().message()), HasSubstr("no such model"));

  auto late = Shell("exec sleep 1000")->WaitForLine("ready", absl::Milliseconds(1));
  EXPECT_EQ(late.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(SubprocessTest, NeverOutlivesTheObject) {
  pid_t pid = 0;
  {
    auto process = Shell("trap '' TERM; echo started; sleep 1000");
    ASSERT_TRUE(process->WaitForLine("started").ok());
    pid = process->pid();
    // The destructor waits for the end of both streams, which `sleep` holds open as well.
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(SubprocessTest, ReportsAProgramThatIsNotThere) {
  auto process = *Subprocess::Start({.command = {"/no/such/program"}});
  EXPECT_EQ(*process->Wait(), 127);
  EXPECT_THAT(process->errors(), HasSubstr("cannot be started"));
}

TEST(SubprocessTest, GivesATerminalOrAPipeToEachStream) {
  SubprocessOptions options;
  options.stderr_is_terminal = true;
  auto process = Shell("test -t 1 && echo tty1; test -t 2 && echo tty2 >&2; exit 0", options);
  EXPECT_EQ(*process->Wait(), 0);
  EXPECT_EQ(process->output(), "");
  EXPECT_EQ(process->errors(), "tty2\r\n");
}

TEST(SubprocessTest, AddsToTheEnvironment) {
  SubprocessOptions options;
  options.environment = {{"DLA_SUBPROCESS_TEST", "yes"}};
  auto process = Shell("echo $DLA_SUBPROCESS_TEST; test -n \"$PATH\"", options);
  EXPECT_EQ(*process->Wait(), 0);
  EXPECT_EQ(process->output(), "yes\n");
}

TEST(LogFieldTest, FindsTheValueOfAKey) {
  const std::string line = "I ready grpc=127.0.0.1:43567 metrics=127.0.0.1:43568";
  EXPECT_EQ(LogField(line, "grpc"), "127.0.0.1:43567");
  EXPECT_EQ(LogField(line, "metrics"), "127.0.0.1:43568");
  EXPECT_EQ(LogField(line, "http"), "");
}

}  // namespace
}  // namespace dla::testing
