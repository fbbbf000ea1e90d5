#include "tests/support/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace dla::testing {
namespace {

struct Ends {
  int ours = -1;
  int theirs = -1;
};

// Both ends close on exec: the child's copies made by dup2 do not.
absl::StatusOr<Ends> OpenStream(bool terminal, bool we_write) {
  Ends ends;
  if (terminal) {
    winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    if (openpty(&ends.ours, &ends.theirs, nullptr, nullptr, &size) != 0) {
      return absl::ErrnoToStatus(errno, "openpty");
    }
    fcntl(ends.ours, F_SETFD, FD_CLOEXEC);
    fcntl(ends.theirs, F_SETFD, FD_CLOEXEC);
  } else {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
    ends = we_write ? Ends{fds[1], fds[0]} : Ends{fds[0], fds[1]};
  }
  fcntl(ends.ours, F_SETFL, fcntl(ends.ours, F_GETFL) | O_NONBLOCK);
  return ends;
}

std::vector<std::string> Environment(
    const std::vector<std::pair<std::string, std::string>>& additions) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view name =
        absl::string_view(*entry).substr(0, absl::string_view(*entry).find('='));
    bool replaced = false;
    for (const auto& addition : additions) replaced |= addition.first == name;
    if (!replaced) result.emplace_back(*entry);
  }
  for (const auto& [name, value] : additions) result.push_back(absl::StrCat(name, "=", value));
  return result;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Writes as much of `input` as fits; closes the descriptor when all is written or nobody reads.
void Feed(int& fd, absl::string_view& input) {
  while (!input.empty()) {
    const ssize_t written = write(fd, input.data(), input.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return;
    if (written < 0) break;
    input.remove_prefix(static_cast<size_t>(written));
  }
  close(fd);
  fd = -1;
}

// The first line with `text`. Only lines that have ended count, unless the stream has.
bool FindLine(const std::string& stream, absl::string_view text, bool ended, std::string& line) {
  for (size_t begin = 0; begin < stream.size();) {
    size_t end = stream.find('\n', begin);
    if (end == std::string::npos) {
      if (!ended) return false;
      end = stream.size();
    }
    absl::string_view candidate(stream.data() + begin, end - begin);
    absl::ConsumeSuffix(&candidate, "\r");
    if (candidate.find(text) != absl::string_view::npos) {
      line = std::string(candidate);
      return true;
    }
    begin = end + 1;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Subprocess>> Subprocess::Start(SubprocessOptions options) {
  if (options.command.empty()) return absl::InvalidArgumentError("no command");
  // A program that ends without reading its input must not end the test.
  signal(SIGPIPE, SIG_IGN);
  auto in = OpenStream(false, true);
  auto out = OpenStream(options.stdout_is_terminal, false);
  auto err = OpenStream(options.stderr_is_terminal, false);
  for (const auto* stream : {&in, &out, &err}) {
    if (!stream->ok()) return stream->status();
  }
  std::vector<std::string> environment = Environment(options.environment);
  std::vector<char*> argv = Pointers(options.command);
  std::vector<char*> envp = Pointers(environment);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);
    dup2(in->theirs, STDIN_FILENO);
    dup2(out->theirs, STDOUT_FILENO);
    dup2(err->theirs, STDERR_FILENO);
    execvpe(argv[0], argv.data(), envp.data());
    constexpr char kFailed[] = "cannot be started\n";
    [[maybe_unused]] ssize_t ignored = write(STDERR_FILENO, kFailed, sizeof(kFailed) - 1);
    _exit(127);
  }
  setpgid(pid, pid);  // Whichever of the two comes first.
  for (int fd : {in->theirs, out->theirs, err->theirs}) close(fd);

  auto process = std::unique_ptr<Subprocess>(new Subprocess);
  process->pid_ = pid;
  {
    const std::lock_guard lock(process->mu_);
    process->out_.fd = out->ours;
    process->err_.fd = err->ours;
  }
  process->collector_ =
      std::thread(&Subprocess::Collect, process.get(), in->ours, std::move(options.input));
  return process;
}

Subprocess::~Subprocess() {
  {
    const std::lock_guard lock(mu_);
    if (!ended_) kill(-pid_, SIGKILL);
  }
  collector_.join();
}

void Subprocess::Collect(int input_fd, const std::string& all_input) {
  absl::string_view input = all_input;
  if (input.empty()) Feed(input_fd, input);
  while (true) {
    pollfd fds[3] = {};
    {
      const std::lock_guard lock(mu_);
      fds[0] = {.fd = out_.fd, .events = POLLIN, .revents = 0};
      fds[1] = {.fd = err_.fd, .events = POLLIN, .revents = 0};
    }
    fds[2] = {.fd = input_fd, .events = POLLOUT, .revents = 0};
    if (fds[0].fd < 0 && fds[1].fd < 0) break;
    if (poll(fds, 3, -1) < 0) continue;
    if (fds[0].revents != 0) Append(out_, fds[0].fd);
    if (fds[1].revents != 0) Append(err_, fds[1].fd);
    if (fds[2].revents != 0) Feed(input_fd, input);
  }
  if (input_fd >= 0) close(input_fd);
  // The zombie keeps its id, so that a signal sent until `ended_` is set reaches no stranger.
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  const std::lock_guard lock(mu_);
  int status = 0;
  waitpid(pid_, &status, 0);
  exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  ended_ = true;
  changed_.notify_all();
}

void Subprocess::Append(Stream& stream, int fd) {
  char buffer[65536];
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const std::lock_guard lock(mu_);
  if (size > 0) {
    stream.text.append(buffer, static_cast<size_t>(size));
    changed_.notify_all();
    return;
  }
  // End of the pipe; a terminal whose other side is closed reports EIO.
  close(fd);
  stream.fd = -1;
}

absl::StatusOr<std::string> Subprocess::WaitForLine(absl::string_view text,
                                                    absl::Duration timeout) {
  std::string line;
  const auto arrived = [&] {
    return FindLine(out_.text, text, ended_, line) || FindLine(err_.text, text, ended_, line) ||
           ended_;
  };
  std::unique_lock lock(mu_);
  const bool in_time = changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout), arrived);
  if (!line.empty() || (in_time && text.empty())) return line;
  if (in_time) {
    return absl::FailedPreconditionError(absl::StrCat(
        "ended with code ", exit_code_, " without a line \"", text, "\"", Transcript()));
  }
  return absl::DeadlineExceededError(
      absl::StrCat("no line \"", text, "\" in ", absl::FormatDuration(timeout), Transcript()));
}

absl::StatusOr<int> Subprocess::Wait(absl::Duration timeout) {
  std::unique_lock lock(mu_);
  const auto ended = [this] { return ended_; };
  if (changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout), ended)) return exit_code_;
  return absl::DeadlineExceededError(
      absl::StrCat("still running after ", absl::FormatDuration(timeout), Transcript()));
}

void Subprocess::Signal(int signal) {
  const std::lock_guard lock(mu_);
  if (!ended_) kill(pid_, signal);
}

std::string Subprocess::output() const {
  const std::lock_guard lock(mu_);
  return out_.text;
}

std::string Subprocess::errors() const {
  const std::lock_guard lock(mu_);
  return err_.text;
}

std::string Subprocess::Transcript() const {
  return absl::StrCat("\n--- stdout ---\n", out_.text, "\n--- stderr ---\n", err_.text);
}

std::string ProgramPath(absl::string_view name) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / std::string(name))
      .string();
}

std::string LogField(absl::string_view line, absl::string_view key) {
  while (!line.empty()) {
    absl::string_view field = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(field.size() + 1, line.size()));
    if (absl::ConsumePrefix(&field, key) && absl::ConsumePrefix(&field, "=")) {
      return std::string(field);
    }
  }
  return "";
}

}  // namespace dla::testing
