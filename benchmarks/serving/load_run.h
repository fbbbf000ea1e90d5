// Puts a server under load for a while and measures what it does.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "benchmarks/serving/load_target.h"

namespace dla::bench {

using Clock = std::chrono::steady_clock;

struct LoadPlan {
  // Closed loop: so many requests at any time, each answer followed by the next request.
  int in_flight = 0;

  // Open loop, if in_flight is 0: requests a second, at random (Poisson) times that do not depend
  // on the answers. Latency counts from the time at which a request was due.
  double rate = 0;
  uint32_t seed = 1;

  // RESOURCE_EXHAUSTED is no error but a refusal, as a server gives that has more than it can do.
  bool allow_refusals = false;

  double warm_up_s = 3;
  double seconds = 10;
};

// Called by the thread that runs RunLoad.
struct LoadObserver {
  std::function<void()> begin = [] {};   // the measured time begins
  std::function<void()> sample = [] {};  // every sample_every until it ends
  std::function<void()> end = [] {};
  std::chrono::seconds sample_every{3};
};

// One request. `due` is when it was to be sent, in a closed loop when it was sent.
struct Sample {
  Clock::time_point due;
  Clock::time_point sent;
  Clock::time_point done;
};

struct LoadResult {
  std::vector<Sample> samples;  // requests that succeeded, in the order of their answers
  std::vector<Sample> refusals;
  Clock::time_point begin, end;  // of the measured time
  int64_t errors = 0;            // over the whole run
  std::string first_error;
};

// Blocks until the plan is done and every request is answered; ends early after 100 errors.
// Photos are sent in turn.
LoadResult RunLoad(LoadTarget& target, const LoadPlan& plan, const LoadObserver& observer);

struct LoadSummary {
  int64_t images = 0;
  double images_per_second = 0;
  double p50_ms = 0, p90_ms = 0, p99_ms = 0, max_ms = 0;  // 0 if there is no image
};

struct RefusalSummary {
  int64_t refusals = 0;
  double p50_ms = 0, p99_ms = 0, max_ms = 0;  // from when it was sent; 0 if there is none
};

// Those that came in the measured time.
RefusalSummary SummarizeRefusals(const LoadResult& result);

// A closed loop counts what was answered in the measured time, an open loop what was due in it.
LoadSummary Summarize(const LoadResult& result, bool open_loop);

}  // namespace dla::bench
