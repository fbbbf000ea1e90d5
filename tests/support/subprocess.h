// A program that a test starts: its output is collected as it comes, and it never outlives the
// test.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace dla::testing {

struct SubprocessOptions {
  // Program and arguments. The program is looked up in PATH unless it contains a slash.
  std::vector<std::string> command;

  // Set on top of this process's environment.
  std::vector<std::pair<std::string, std::string>> environment = {};

  // What the program reads from its standard input, which then ends.
  std::string input = {};

  // Connects the stream to a pseudo-terminal of 80x24 instead of a pipe. Lines then end in "\r\n".
  bool stdout_is_terminal = false;
  bool stderr_is_terminal = false;
};

// All waits are bounded by a timeout and return as soon as the event is there. Thread-safe, but the
// thread that called Start must live as long as the program: Linux kills the program with it.
class Subprocess {
 public:
  static absl::StatusOr<std::unique_ptr<Subprocess>> Start(SubprocessOptions options);

  // Kills the program, and what it started in turn, if it still runs.
  ~Subprocess();

  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  pid_t pid() const { return pid_; }

  // The first complete line, of stdout or stderr, that contains `text`, without its line end; also
  // one printed before the call. FAILED_PRECONDITION with all output if the program ends without
  // it, DEADLINE_EXCEEDED with all output after the timeout.
  absl::StatusOr<std::string> WaitForLine(absl::string_view text,
                                          absl::Duration timeout = absl::Seconds(60));

  // The exit code once the program has ended and its output is complete; 128 + N after signal N.
  // DEADLINE_EXCEEDED with all output after the timeout.
  absl::StatusOr<int> Wait(absl::Duration timeout = absl::Seconds(60));

  // Sends a signal such as SIGTERM to the program. No effect when it has ended.
  void Signal(int signal);

  // What the program has printed so far.
  std::string output() const;
  std::string errors() const;

 private:
  struct Stream {
    int fd = -1;  // ours; -1 once it has ended
    std::string text;
  };

  Subprocess() = default;
  void Collect(int input_fd, const std::string& all_input);
  void Append(Stream& stream, int fd);

  // With mu_ held.
  std::string Transcript() const;

  pid_t pid_ = -1;
  // A std::mutex: ThreadSanitizer does not see into the distribution's absl::Mutex.
  mutable std::mutex mu_;
  std::condition_variable changed_;  // something was printed or the program ended
  Stream out_;                       // guarded by mu_, like all that follow
  Stream err_;
  bool ended_ = false;
  int exit_code_ = -1;
  std::thread collector_;
};

// Path of a program of this build, which lies beside the running test.
std::string ProgramPath(absl::string_view name);

// The value of `key=` in a log line of space-separated fields; empty if there is none.
std::string LogField(absl::string_view line, absl::string_view key);

}  // namespace dla::testing
