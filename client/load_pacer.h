// Decides when the requests of a load test are sent, and waits for their answers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "client/arrivals.h"

namespace dla::client {

using LoadTime = std::chrono::steady_clock::time_point;

// The time, and waiting for it; a test has its own.
class LoadClock {
 public:
  virtual ~LoadClock() = default;
  virtual LoadTime Now() = 0;

  // Returns when `changed` is notified, at `time`, or earlier. LoadTime::max() is never.
  virtual void WaitUntil(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                         LoadTime time) = 0;

  // That of this machine; lives for ever.
  static LoadClock& Real();
};

struct LoadPlan {
  // Closed loop: so many requests at any time, each answer followed by the next request.
  int concurrency = 0;

  // Open loop, if concurrency is 0: requests a second at times that do not depend on the answers.
  double rate = 0;
  Arrivals arrivals = Arrivals::kPoisson;
  uint32_t seed = 1;

  // Open loop: no more requests than this wait for an answer. Those that are due meanwhile are sent
  // late, and are none the less counted from when they were due.
  int max_in_flight = 1024;

  std::chrono::nanoseconds warm_up{0};
  std::chrono::nanoseconds duration = std::chrono::hours(24);  // after the warm-up
  int64_t requests = 0;  // most requests after the warm-up; 0: no limit
};

struct LoadRequest {
  int64_t number = 0;     // 0, 1, ... in the order of sending
  bool measured = false;  // it was due after the warm-up
  LoadTime due;           // when it was to be sent; in a closed loop, when it was sent
  LoadTime sent;
};

// Run once. Stop and Answered are thread-safe.
class LoadPacer {
 public:
  // `send` must return soon and lead to one call of Answered. It is called on the thread in Run
  // and, in a closed loop, on those that call Answered.
  LoadPacer(const LoadPlan& plan, LoadClock& clock, std::function<void(const LoadRequest&)> send);

  // Returns once the plan is done, or stopped, and every request is answered.
  void Run();

  // Nothing is sent any more.
  void Stop();

  // One request is answered, in whatever way. The pacer may end before this returns only if Run
  // has.
  void Answered();

  // The measured time: from the end of the warm-up to when sending ends by plan. Constant.
  LoadTime begin() const { return begin_; }
  LoadTime end() const { return end_; }

 private:
  bool closed() const { return plan_.concurrency > 0; }

  // With mu_ held; false once nothing more is to be sent at `due`.
  bool Next(LoadTime due, LoadRequest& request);

  const LoadPlan plan_;
  LoadClock& clock_;
  const std::function<void(const LoadRequest&)> send_;
  const LoadTime start_;
  const LoadTime begin_;
  const LoadTime end_;

  // A std::mutex, since ThreadSanitizer does not see into the distribution's absl::Mutex.
  std::mutex mu_;
  std::condition_variable changed_;
  int64_t sent_ = 0;  // guarded by mu_, like all that follow
  int64_t measured_ = 0;
  int64_t in_flight_ = 0;
  bool stopped_ = false;
};

}  // namespace dla::client
