#include "client/load_pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "client/latency_histogram.h"

namespace dla::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Time passes only while the pacer waits: it jumps to the next event, or to when the wait ends.
class SimulatedClock final : public LoadClock {
 public:
  LoadTime Now() override { return now_; }

  void WaitUntil(std::condition_variable&, std::unique_lock<std::mutex>& lock,
                 LoadTime time) override {
    if (events_.empty() || events_.begin()->first > time) {
      ASSERT_NE(time, LoadTime::max()) << "nothing will ever happen";
      now_ = time;
      return;
    }
    const auto event = events_.extract(events_.begin());
    now_ = event.key();
    lock.unlock();
    event.mapped()();
    lock.lock();
  }

  void At(LoadTime time, std::function<void()> event) { events_.emplace(time, std::move(event)); }

 private:
  LoadTime now_ = LoadTime() + seconds(1000);
  std::multimap<LoadTime, std::function<void()>> events_;
};

struct Seen {
  LoadRequest request;
  LoadTime done;
};

// Answers one request at a time.
class SlowServer {
 public:
  SlowServer(SimulatedClock& clock, milliseconds service) : clock_(clock), service_(service) {}

  void Use(LoadPacer& pacer) { pacer_ = &pacer; }

  void Send(const LoadRequest& request) {
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    free_ = std::max(free_, clock_.Now()) + service_;
    clock_.At(free_, [this, request] {
      --at_once_;
      seen_.push_back({request, clock_.Now()});
      pacer_->Answered();
    });
  }

  const std::vector<Seen>& seen() const { return seen_; }
  int most_at_once() const { return most_at_once_; }

  // Of the measured requests.
  double P99Ms(bool since_due) const {
    LatencyHistogram latencies;
    for (const auto& [request, done] : seen_) {
      if (request.measured) latencies.Record(done - (since_due ? request.due : request.sent));
    }
    return latencies.PercentileMs(0.99);
  }

 private:
  SimulatedClock& clock_;
  const milliseconds service_;
  LoadPacer* pacer_ = nullptr;
  LoadTime free_;
  std::vector<Seen> seen_;
  int at_once_ = 0;
  int most_at_once_ = 0;
};

// The plan against a server that takes `service` for each request.
class LoadPacerTest : public ::testing::Test {
 protected:
  const std::vector<Seen>& Run(const LoadPlan& plan, milliseconds service) {
    server_ = std::make_unique<SlowServer>(clock_, service);
    LoadPacer pacer(plan, clock_, [this](const LoadRequest& request) { server_->Send(request); });
    server_->Use(pacer);
    begin_ = pacer.begin();
    pacer.Run();
    return server_->seen();
  }

  SimulatedClock clock_;
  std::unique_ptr<SlowServer> server_;
  LoadTime begin_;
};

constexpr LoadPlan Open(double rate, milliseconds duration) {
  return {.rate = rate, .arrivals = Arrivals::kConstant, .duration = duration};
}

TEST_F(LoadPacerTest, OpenLoopSendsWhatIsDueWhenItIsDue) {
  const auto& seen = Run(Open(10, milliseconds(1000)), milliseconds(5));
  ASSERT_EQ(seen.size(), 10u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].request.number, static_cast<int64_t>(i));
    EXPECT_EQ(seen[i].request.due, begin_ + milliseconds(100) * i);
    EXPECT_EQ(seen[i].request.sent, seen[i].request.due);
    EXPECT_EQ(seen[i].done, seen[i].request.due + milliseconds(5));
  }
}

// 100 a second against a server that manages 50: after 10 s, 500 requests wait, which takes 10 s.
TEST_F(LoadPacerTest, LatencyOfAnOpenLoopGrowsWhenTheServerIsSlowerThanTheRate) {
  const auto& seen = Run(Open(100, seconds(10)), milliseconds(20));
  ASSERT_EQ(seen.size(), 1000u);
  EXPECT_NEAR(server_->P99Ms(/*since_due=*/true), 9920, 50);
}

// Only one request at a time is let out, so that each call takes its 20 ms and no more; whoever
// looked at these alone would not see that callers wait for seconds.
TEST_F(LoadPacerTest, HeldBackRequestsCountFromWhenTheyWereDue) {
  LoadPlan plan = Open(100, seconds(10));
  plan.max_in_flight = 1;
  const auto& seen = Run(plan, milliseconds(20));
  ASSERT_EQ(seen.size(), 1000u);
  EXPECT_EQ(server_->most_at_once(), 1);
  EXPECT_NEAR(server_->P99Ms(/*since_due=*/false), 20, 0.1);
  EXPECT_NEAR(server_->P99Ms(/*since_due=*/true), 9920, 50);
}

TEST_F(LoadPacerTest, NoMoreRequestsThanAllowedAreOnTheirWay) {
  LoadPlan plan = Open(1000, seconds(1));
  plan.max_in_flight = 7;
  Run(plan, milliseconds(20));
  EXPECT_EQ(server_->most_at_once(), 7);
}

// The closed loop, in contrast, asks a slow server less.
TEST_F(LoadPacerTest, ClosedLoopSendsTheNextRequestWhenOneIsAnswered) {
  const auto& seen = Run({.concurrency = 2, .duration = milliseconds(1000)}, milliseconds(20));
  ASSERT_EQ(seen.size(), 51u);  // 50 in this second, and one that was on its way at its end
  EXPECT_EQ(server_->most_at_once(), 2);
  for (const Seen& s : seen) EXPECT_EQ(s.request.sent, s.request.due);
  EXPECT_NEAR(server_->P99Ms(true), 40, 0.2);
}

TEST_F(LoadPacerTest, WhatIsDueInTheWarmUpIsNotMeasured) {
  LoadPlan plan = Open(10, seconds(1));
  plan.warm_up = seconds(2);
  const auto& seen = Run(plan, milliseconds(5));
  ASSERT_EQ(seen.size(), 30u);
  for (const Seen& s : seen) EXPECT_EQ(s.request.measured, s.request.number >= 20);
}

TEST_F(LoadPacerTest, EndsAfterSoManyMeasuredRequests) {
  LoadPlan open = Open(10, seconds(3600));
  open.warm_up = seconds(1);
  open.requests = 5;
  EXPECT_EQ(Run(open, milliseconds(5)).size(), 15u);
  EXPECT_EQ(Run({.concurrency = 8, .requests = 5}, milliseconds(5)).size(), 5u);
}

TEST_F(LoadPacerTest, SendsNothingOnceItIsStopped) {
  for (const int concurrency : {0, 3}) {
    LoadPlan plan = Open(10, seconds(3600));
    plan.concurrency = concurrency;
    SlowServer server(clock_, milliseconds(5));
    LoadPacer* to_stop = nullptr;
    LoadPacer pacer(plan, clock_, [&](const LoadRequest& request) {
      server.Send(request);
      if (request.number == 6) to_stop->Stop();
    });
    server.Use(pacer);
    to_stop = &pacer;
    pacer.Run();
    EXPECT_EQ(server.seen().size(), 7u);
  }
}

}  // namespace
}  // namespace dla::client
