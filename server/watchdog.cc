#include "server/watchdog.h"

#include <utility>

namespace dla::server {

Watchdog::Watchdog(Clock& clock, std::function<TimePoint()> look)
    : clock_(clock), look_(std::move(look)) {}

Watchdog::~Watchdog() { Stop(); }

void Watchdog::Start() {
  thread_ = std::thread([this] { Work(); });
}

void Watchdog::Stop() {
  {
    MutexLock lock(mu_);
    stopped_ = true;
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::Wake() {
  MutexLock lock(mu_);
  woken_ = true;
  changed_.NotifyAll();  // with the lock: once it is free, the watchdog may be gone
}

void Watchdog::Work() {
  for (;;) {
    idle_.store(true);
    const TimePoint next = look_();
    if (next != TimePoint::max()) idle_.store(false);
    MutexLock lock(mu_);
    while (!woken_ && !stopped_ && clock_.Now() < next) {
      if (next == TimePoint::max()) {
        changed_.Wait(mu_);
      } else {
        clock_.WaitUntil(changed_, mu_, next);
      }
    }
    if (stopped_) return;
    woken_ = false;
  }
}

}  // namespace dla::server
