// A clock that stands still until a test moves it.
#pragma once

#include <list>

#include "server/clock.h"

namespace dla::server {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  TimePoint Now() override;
  void WaitUntil(CondVar& cv, Mutex& mu, TimePoint deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) override;

  // Moves the time forward and wakes all who wait for a moment that has now come.
  void Advance(Duration step);

  // Blocks until `count` threads wait for a moment to come.
  void AwaitWaiters(size_t count);

  // Blocks until a thread waits for exactly this moment.
  void AwaitWaiterFor(TimePoint deadline);

 private:
  struct Waiter {
    CondVar* cv;
    Mutex* mu;
    TimePoint deadline;
  };

  Mutex mu_;
  CondVar waiters_changed_;
  TimePoint now_ ABSL_GUARDED_BY(mu_) = TimePoint() + std::chrono::hours(1);
  std::list<Waiter> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
