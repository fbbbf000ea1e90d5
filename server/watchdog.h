// Finds out that something takes too long, without a poll and without a lock for what does not.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "server/clock.h"
#include "server/mutex.h"

namespace dla::server {

// Who owns a piece of work: the thread that does it or, once it is overdue, whoever takes it away.
// Exactly one of End and Take succeeds for each Begin. Lock-free.
class WorkClaim {
 public:
  // By the thread that does the work, one piece after the other. What it wrote before is seen by
  // who takes the work away. False after Close: there is no more to do.
  bool Begin(TimePoint due) {
    TimePoint idle = kIdle;
    return due_.compare_exchange_strong(idle, due);
  }

  // False: it was taken away. There is nothing to begin any more then.
  bool End() {
    TimePoint due = due_.load(std::memory_order_relaxed);
    return due != kTaken && due_.compare_exchange_strong(due, kIdle);
  }

  // TimePoint::max() when no work is under way, or work that is never overdue.
  TimePoint due() const {
    const TimePoint due = due_.load();
    return due == kIdle || due == kTaken ? TimePoint::max() : due;
  }

  // Takes away what is under way if it is due by `latest`.
  bool Take(TimePoint latest) {
    TimePoint due = due_.load();
    // Another piece with the same due time would be as overdue.
    return due != kIdle && due != kTaken && due <= latest &&
           due_.compare_exchange_strong(due, kTaken);
  }

  // Takes away what is under way, if anything, and lets nothing begin any more.
  bool Close() {
    const TimePoint due = due_.exchange(kTaken);
    return due != kIdle && due != kTaken;
  }

 private:
  static constexpr TimePoint kIdle = TimePoint::min();
  static constexpr TimePoint kTaken = TimePoint::min() + Duration(1);
  static_assert(std::atomic<TimePoint>::is_always_lock_free);

  std::atomic<TimePoint> due_ = kIdle;
};

// A thread that looks when something may be due and sleeps otherwise, for as long as nothing is
// under way. Thread-safe but for Start and Stop.
class Watchdog {
 public:
  // `look` does what is due by now and returns when something will be: TimePoint::max() if nothing
  // is under way. Only the watchdog's thread calls it.
  Watchdog(Clock& clock, std::function<TimePoint()> look);

  // As Stop.
  ~Watchdog();

  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Start();

  // Waits for a look that is under way. Idempotent.
  void Stop();

  // Something began that is due no sooner than all that is under way. Cheap: no lock unless the
  // thread sleeps for want of anything to wait for.
  void Begun() {
    if (idle_.load()) Wake();
  }

  // Has it look soon. No effect after Stop.
  void Wake();

 private:
  void Work();

  Clock& clock_;
  const std::function<TimePoint()> look_;

  // Set before a look that finds nothing, so that what begins after it is not missed.
  std::atomic<bool> idle_ = false;
  Mutex mu_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace dla::server
