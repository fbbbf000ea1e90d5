#include "benchmarks/serving/load_run.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include "client/load_pacer.h"

namespace dla::bench {
namespace {

constexpr int64_t kMostErrors = 100;

client::LoadPlan PacerPlan(const LoadPlan& plan) {
  const auto nanoseconds = [](double s) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(s));
  };
  return {.concurrency = plan.in_flight,
          .rate = plan.rate,
          .seed = plan.seed,
          .max_in_flight = std::numeric_limits<int>::max(),
          .warm_up = nanoseconds(plan.warm_up_s),
          .duration = nanoseconds(plan.seconds)};
}

class Load {
 public:
  Load(LoadTarget& target, const LoadPlan& plan)
      : target_(target),
        allow_refusals_(plan.allow_refusals),
        pacer_(PacerPlan(plan), client::LoadClock::Real(),
               [this](const client::LoadRequest& request) { Send(request); }) {}

  client::LoadPacer& pacer() { return pacer_; }

  // Returns at `time`, or earlier (false) when the load is given up.
  bool WaitUntil(Clock::time_point time) {
    std::unique_lock lock(mutex_);
    return !given_up_.wait_until(lock, time, [this] { return GivenUp(); });
  }

  // After the pacer's Run only.
  LoadResult TakeResult() { return std::move(result_); }

 private:
  bool GivenUp() const { return result_.errors >= kMostErrors; }

  void Send(const client::LoadRequest& request) {
    target_.Send(static_cast<size_t>(request.number),
                 [this, due = request.due, sent = request.sent](absl::StatusOr<Answer> answer) {
                   Record({due, sent, Clock::now()}, answer);
                   pacer_.Answered();
                 });
  }

  void Record(const Sample& sample, const absl::StatusOr<Answer>& answer) {
    const bool refused = allow_refusals_ && absl::IsResourceExhausted(answer.status());
    std::string error;
    if (!answer.ok() && !refused) {
      error = answer.status().ToString();
    } else if (!refused && answer->size() != kTopK) {
      error = std::to_string(answer->size()) + " classes instead of " + std::to_string(kTopK);
    }
    const std::lock_guard lock(mutex_);
    if (error.empty()) {
      (refused ? result_.refusals : result_.samples).push_back(sample);
    } else if (++result_.errors == 1) {
      result_.first_error = error;
    }
    if (!GivenUp()) return;
    pacer_.Stop();
    given_up_.notify_all();
  }

  LoadTarget& target_;
  const bool allow_refusals_;
  std::mutex mutex_;
  std::condition_variable given_up_;
  LoadResult result_;
  client::LoadPacer pacer_;
};

// `sorted` is not empty. The smallest value that `share` of all do not exceed.
double Percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

LoadResult RunLoad(LoadTarget& target, const LoadPlan& plan, const LoadObserver& observer) {
  Load load(target, plan);
  const Clock::time_point begin = load.pacer().begin();
  const Clock::time_point end = load.pacer().end();
  std::thread pacer([&load] { load.pacer().Run(); });

  bool going = load.WaitUntil(begin);
  observer.begin();
  for (Clock::time_point next = begin + observer.sample_every; going && next < end;
       next += observer.sample_every) {
    going = load.WaitUntil(next);
    observer.sample();
  }
  if (going) load.WaitUntil(end);
  observer.sample();
  observer.end();
  pacer.join();
  LoadResult result = load.TakeResult();
  result.begin = begin;
  result.end = end;
  return result;
}

LoadSummary Summarize(const LoadResult& result, bool open_loop) {
  std::vector<double> latencies;
  for (const Sample& sample : result.samples) {
    const Clock::time_point counted = open_loop ? sample.due : sample.done;
    if (counted < result.begin || counted >= result.end) continue;
    latencies.push_back(
        std::chrono::duration<double, std::milli>(sample.done - sample.due).count());
  }
  LoadSummary summary;
  if (latencies.empty()) return summary;
  std::sort(latencies.begin(), latencies.end());
  summary.images = static_cast<int64_t>(latencies.size());
  summary.images_per_second = static_cast<double>(summary.images) /
                              std::chrono::duration<double>(result.end - result.begin).count();
  summary.p50_ms = Percentile(latencies, 0.5);
  summary.p90_ms = Percentile(latencies, 0.9);
  summary.p99_ms = Percentile(latencies, 0.99);
  summary.max_ms = latencies.back();
  return summary;
}

RefusalSummary SummarizeRefusals(const LoadResult& result) {
  std::vector<double> latencies;
  for (const Sample& sample : result.refusals) {
    if (sample.done < result.begin || sample.done >= result.end) continue;
    latencies.push_back(
        std::chrono::duration<double, std::milli>(sample.done - sample.sent).count());
  }
  if (latencies.empty()) return {};
  std::sort(latencies.begin(), latencies.end());
  return {.refusals = static_cast<int64_t>(latencies.size()),
          .p50_ms = Percentile(latencies, 0.5),
          .p99_ms = Percentile(latencies, 0.99),
          .max_ms = latencies.back()};
}

}  // namespace dla::bench
