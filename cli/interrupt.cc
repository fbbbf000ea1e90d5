#include "cli/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

namespace dla::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};
constexpr int kNudge = SIGUSR2;
constexpr int kNudgeMilliseconds = 20;

std::atomic<int> wake_fd = -1;
std::atomic<int> signals_seen = 0;
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

void Wake(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = write(fd, &one, sizeof(one));
}

extern "C" void OnSignal(int signal) {
  const int error = errno;
  if (signals_seen.fetch_add(1) > 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  Wake(wake_fd.load());
  errno = error;
}

extern "C" void OnNudge(int) {}

// Without SA_RESTART, so that blocking calls return.
void Handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigaction(signal, &action, nullptr);
}

bool IsIgnored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Interrupt::Interrupt(std::function<void()> on_interrupt)
    : on_interrupt_(std::move(on_interrupt)), stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  const int fd = eventfd(0, EFD_CLOEXEC);
  wake_fd = fd;
  signals_seen = 0;
  Handle(kNudge, OnNudge);
  for (int signal : kSignals) {
    if (!IsIgnored(signal)) Handle(signal, OnSignal);
  }
  watcher_ = std::thread(&Interrupt::Watch, this, fd, pthread_self());
}

Interrupt::~Interrupt() {
  for (int signal : kSignals) {
    if (!IsIgnored(signal)) Handle(signal, SIG_DFL);
  }
  Wake(stop_fd_);
  watcher_.join();
  Handle(kNudge, SIG_DFL);
  close(wake_fd.exchange(-1));
  close(stop_fd_);
}

void Interrupt::Watch(int wake, pthread_t owner) {
  bool interrupted = false;
  while (true) {
    // Again and again, since a nudge between the owner's check and its system call is lost.
    pollfd fds[] = {{stop_fd_, POLLIN, 0}, {interrupted ? -1 : wake, POLLIN, 0}};
    poll(fds, 2, interrupted ? kNudgeMilliseconds : -1);
    if (fds[0].revents != 0) return;
    if (fds[1].revents != 0) {
      interrupted = true;
      on_interrupt_();
    }
    if (interrupted) pthread_kill(owner, kNudge);
  }
}

}  // namespace dla::cli
