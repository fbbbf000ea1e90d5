// Ctrl-C and SIGTERM end a run in good order.
#pragma once

#include <pthread.h>

#include <functional>
#include <thread>

namespace dla::cli {

// While it lives, the first SIGINT or SIGTERM calls `on_interrupt` on another thread, and the
// thread that made this object gets its blocking system calls ended with EINTR until it is
// destroyed. A second signal ends the program at once. Signals that were ignored stay ignored. One
// at a time.
class Interrupt {
 public:
  explicit Interrupt(std::function<void()> on_interrupt);
  ~Interrupt();

  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

 private:
  void Watch(int wake_fd, pthread_t owner);

  const std::function<void()> on_interrupt_;
  int stop_fd_;
  std::thread watcher_;
};

}  // namespace dla::cli
