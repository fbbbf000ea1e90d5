// Threads whose forward pass was taken away from them because it did not return.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "server/mutex.h"
#include "server/watchdog.h"

namespace dla::server {

// Those of one model. A thread cannot be killed: it shares what it may still touch, this object
// too, and ends once its pass returns, perhaps after the model is gone. Thread-safe.
class Strays {
 public:
  // `watchdog` is woken when one comes back.
  explicit Strays(std::shared_ptr<Watchdog> watchdog) : watchdog_(std::move(watchdog)) {}

  void Add() { Change(1); }

  // By the thread itself, or by who did not take its pass away after all.
  void Remove() { Change(-1); }

  int count() const {
    MutexLock lock(mu_);
    return count_;
  }

  // Those of all models of the process. While there are any the process should not run the
  // destructors of its static objects.
  static int total() { return Total().load(); }

 private:
  static std::atomic<int>& Total() {
    static std::atomic<int> total = 0;
    return total;
  }

  void Change(int by) {
    Total() += by;
    {
      MutexLock lock(mu_);
      count_ += by;
    }
    if (by < 0) watchdog_->Wake();
  }

  const std::shared_ptr<Watchdog> watchdog_;
  mutable Mutex mu_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace dla::server
