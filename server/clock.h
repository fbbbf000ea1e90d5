// The time, injected, so that tests decide when it passes.
#pragma once

#include <chrono>

#include "server/mutex.h"

namespace dla::server {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;

inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  virtual TimePoint Now() = 0;

  // Returns once `cv` is notified or `deadline` has passed, or spuriously before.
  virtual void WaitUntil(CondVar& cv, Mutex& mu, TimePoint deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) = 0;

  // The steady clock of the machine.
  static Clock& Real();
};

}  // namespace dla::server
