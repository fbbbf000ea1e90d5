#include "benchmarks/serving/load_run.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

namespace dla::bench {
namespace {

constexpr int64_t kMostErrors = 100;

Clock::duration Seconds(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

class Load {
 public:
  Load(LoadTarget& target, bool closed, bool allow_refusals, Clock::time_point end)
      : target_(target), closed_(closed), allow_refusals_(allow_refusals), end_(end) {}

  void Send(Clock::time_point due) {
    size_t photo = 0;
    {
      const std::lock_guard lock(mutex_);
      ++under_way_;
      photo = next_photo_++;
    }
    target_.Send(photo, [this, due, sent = Clock::now()](absl::StatusOr<Answer> answer) {
      Done({due, sent, Clock::now()}, answer);
    });
  }

  // Returns at `time`, or earlier (false) when the load is given up.
  bool WaitUntil(Clock::time_point time) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_until(lock, time, [this] { return GivenUp(); });
  }

  void WaitForAnswers() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return under_way_ == 0; });
  }

  // After WaitForAnswers only.
  LoadResult TakeResult() { return std::move(result_); }

 private:
  bool GivenUp() const { return result_.errors >= kMostErrors; }

  void Done(const Sample& sample, const absl::StatusOr<Answer>& answer) {
    const bool refused = allow_refusals_ && absl::IsResourceExhausted(answer.status());
    std::string error;
    if (!answer.ok() && !refused) {
      error = answer.status().ToString();
    } else if (!refused && answer->size() != kTopK) {
      error = std::to_string(answer->size()) + " classes instead of " + std::to_string(kTopK);
    }
    bool again = false;
    {
      const std::lock_guard lock(mutex_);
      if (error.empty()) {
        (refused ? result_.refusals : result_.samples).push_back(sample);
      } else if (++result_.errors == 1) {
        result_.first_error = error;
      }
      again = closed_ && sample.done < end_ && !GivenUp();
    }
    // The next one first, so that this one's place is never seen empty.
    if (again) Send(sample.done);
    const std::lock_guard lock(mutex_);
    if (--under_way_ == 0 || GivenUp()) changed_.notify_all();
  }

  LoadTarget& target_;
  const bool closed_;
  const bool allow_refusals_;
  const Clock::time_point end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  LoadResult result_;
  int64_t under_way_ = 0;
  size_t next_photo_ = 0;
};

// `sorted` is not empty. The smallest value that `share` of all do not exceed.
double Percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

std::vector<double> PoissonArrivals(double rate, double seconds, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> gap(rate);
  std::vector<double> times;
  for (double t = gap(random); t < seconds; t += gap(random)) times.push_back(t);
  return times;
}

LoadResult RunLoad(LoadTarget& target, const LoadPlan& plan, const LoadObserver& observer) {
  const bool closed = plan.in_flight > 0;
  const Clock::time_point start = Clock::now();
  const Clock::time_point begin = start + Seconds(plan.warm_up_s);
  const Clock::time_point end = begin + Seconds(plan.seconds);
  Load load(target, closed, plan.allow_refusals, end);

  std::thread pacer;
  if (closed) {
    for (int i = 0; i < plan.in_flight; ++i) load.Send(Clock::now());
  } else {
    pacer = std::thread([&] {
      for (double t : PoissonArrivals(plan.rate, plan.warm_up_s + plan.seconds, plan.seed)) {
        const Clock::time_point due = start + Seconds(t);
        if (!load.WaitUntil(due)) return;
        load.Send(due);
      }
    });
  }

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
  if (pacer.joinable()) pacer.join();
  load.WaitForAnswers();
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
