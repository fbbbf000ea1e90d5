#include "tests/support/fake_clock.h"

#include <algorithm>
#include <vector>

namespace dla::server {

TimePoint FakeClock::Now() {
  MutexLock lock(mu_);
  return now_;
}

void FakeClock::WaitUntil(CondVar& cv, Mutex& mu, TimePoint deadline) {
  std::list<Waiter>::iterator self;
  {
    MutexLock lock(mu_);
    if (now_ >= deadline) return;
    self = waiters_.insert(waiters_.end(), {&cv, &mu, deadline});
  }
  waiters_changed_.NotifyAll();
  // `mu` is held from before the entry until here, so Advance cannot wake this thread too early.
  cv.Wait(mu);
  MutexLock lock(mu_);
  waiters_.erase(self);
}

void FakeClock::Advance(Duration step) {
  std::vector<Waiter> due;
  {
    MutexLock lock(mu_);
    now_ += step;
    for (const Waiter& waiter : waiters_) {
      if (waiter.deadline <= now_) due.push_back(waiter);
    }
  }
  for (const Waiter& waiter : due) {
    { MutexLock lock(*waiter.mu); }  // whoever entered himself is inside cv.Wait now
    waiter.cv->NotifyAll();
  }
}

void FakeClock::AwaitWaiters(size_t count) {
  MutexLock lock(mu_);
  while (waiters_.size() < count) waiters_changed_.Wait(mu_);
}

void FakeClock::AwaitWaiterFor(TimePoint deadline) {
  MutexLock lock(mu_);
  while (std::none_of(waiters_.begin(), waiters_.end(),
                      [&](const Waiter& waiter) { return waiter.deadline == deadline; })) {
    waiters_changed_.Wait(mu_);
  }
}

}  // namespace dla::server
