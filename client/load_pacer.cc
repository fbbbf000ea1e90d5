#include "client/load_pacer.h"

#include <utility>

namespace dla::client {
namespace {

class RealClock final : public LoadClock {
 public:
  LoadTime Now() override { return std::chrono::steady_clock::now(); }

  void WaitUntil(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                 LoadTime time) override {
    if (time == LoadTime::max()) {
      changed.wait(lock);
    } else {
      changed.wait_until(lock, time);
    }
  }
};

}  // namespace

LoadClock& LoadClock::Real() {
  static RealClock clock;
  return clock;
}

LoadPacer::LoadPacer(const LoadPlan& plan, LoadClock& clock,
                     std::function<void(const LoadRequest&)> send)
    : plan_(plan),
      clock_(clock),
      send_(std::move(send)),
      start_(clock.Now()),
      begin_(start_ + plan.warm_up),
      end_(begin_ + plan.duration) {}

void LoadPacer::Run() {
  std::unique_lock lock(mu_);
  LoadRequest request;
  const auto send = [&] {
    lock.unlock();
    send_(request);
    lock.lock();
  };
  if (closed()) {
    for (int i = 0; i < plan_.concurrency && Next(clock_.Now(), request); ++i) send();
  } else {
    ArrivalSchedule schedule(plan_.arrivals, plan_.rate, plan_.seed);
    while (true) {
      const LoadTime due = start_ + schedule.Next();
      while (!stopped_ && due < end_ && clock_.Now() < due) clock_.WaitUntil(changed_, lock, due);
      while (!stopped_ && in_flight_ >= plan_.max_in_flight) {
        clock_.WaitUntil(changed_, lock, LoadTime::max());
      }
      if (!Next(due, request)) break;
      send();
    }
  }
  while (in_flight_ > 0) clock_.WaitUntil(changed_, lock, LoadTime::max());
}

void LoadPacer::Stop() {
  const std::lock_guard lock(mu_);
  stopped_ = true;
  changed_.notify_all();
}

void LoadPacer::Answered() {
  LoadRequest request;
  bool again = false;
  {
    const std::lock_guard lock(mu_);
    // Taken before its predecessor is given up, so that the place is never seen empty.
    again = closed() && Next(clock_.Now(), request);
    --in_flight_;
    // Under the lock: once Run has returned, the pacer may be destroyed.
    if (!again) changed_.notify_all();
  }
  if (again) send_(request);
}

bool LoadPacer::Next(LoadTime due, LoadRequest& request) {
  const bool measured = due >= begin_;
  if (stopped_ || due >= end_) return false;
  if (measured && plan_.requests > 0 && measured_ >= plan_.requests) return false;
  request = {.number = sent_++, .measured = measured, .due = due, .sent = clock_.Now()};
  if (measured) ++measured_;
  ++in_flight_;
  return true;
}

}  // namespace dla::client
