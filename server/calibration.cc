#include "server/calibration.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

constexpr double kThreadTolerance = 0.05;
constexpr double kThroughputBatchTolerance = 0.03;
constexpr double kLatencyBatchTolerance = 0.10;

// The batch at which replicas and threads are compared: the network's passes are as efficient as
// they get, or nearly, and yet short enough to run several in the time there is.
constexpr int kUsualBatch = 4;
constexpr int kLargestBatch = 16;
constexpr int kDefaultBatch = 8;

// So many forward passes does a measurement take at least: one to warm up, two that count.
constexpr int kLeastPasses = 3;

// A replica that takes a batch is woken, gathers it, and interrupts others: measured with small
// networks, whose throughput under load grew by as much when batches did.
constexpr double kServingSecondsPerBatch = 100e-6;

constexpr double kTimeToCompare = 0.4;  // share of the budget for a first look at all choices
// Threads that share a pass look slow while the system leaves them on one core, which lasts as long
// as it likes. New threads are a new chance.
constexpr int kLatencyRepeats = 4;

constexpr double kHopeful = 0.8;  // what reaches this share of the best is measured again

// 1, 2, 4, ... up to `most`, and `most` itself.
std::vector<int> PowersUpTo(int most) {
  std::vector<int> powers;
  for (int n = 1; n < most; n *= 2) powers.push_back(n);
  powers.push_back(std::max(1, most));
  return powers;
}

std::vector<int> ThreadChoices(const CalibrationOptions& options) {
  if (options.fixed.threads > 0) return {options.fixed.threads};
  return PowersUpTo(options.cores / std::max(1, options.fixed.replicas));
}

int ReplicasThatFit(const CalibrationOptions& options, int threads) {
  return options.fixed.replicas > 0 ? options.fixed.replicas : std::max(1, options.cores / threads);
}

int TotalThreads(const Share& share) { return share.replicas * share.threads; }

// Nothing where it was not measured. `Measurements` is a vector of them, const or not.
template <typename Measurements>
auto* FindIn(Measurements& measured, const Share& share) {
  const auto it = std::find_if(measured.begin(), measured.end(),
                               [&](const Measurement& m) { return m.share == share; });
  return it == measured.end() ? nullptr : &*it;
}

class Search {
 public:
  Search(const CalibrationOptions& options, MeasureFunction measure, Clock& clock)
      : options_(options), measure_(measure), clock_(clock), start_(clock.Now()) {}

  absl::StatusOr<Calibration> Run() {
    // A short look at how fast the model is says what else there is time for.
    const int threads = ThreadChoices(options_).front();
    DLA_RETURN_IF_ERROR(Measure({.replicas = 1, .threads = threads, .max_batch = 1}));
    photo_seconds_ = measured_.front().speed.batch_seconds;
    absl::StatusOr<Share> share =
        options_.goal == Goal::kThroughput ? ChooseForThroughput() : ChooseForLatency();
    DLA_RETURN_IF_ERROR(share.status());
    const Measurement* found = Find(*share);
    return Calibration{.share = *share,
                       .speed = found != nullptr ? found->speed : measured_.front().speed,
                       .measured = std::move(measured_),
                       .took = clock_.Now() - start_};
  }

 private:
  using Merit = double (*)(const Measurement&);

  absl::StatusOr<Share> ChooseForThroughput() {
    std::vector<Share> shares;
    for (const int threads : ThreadChoices(options_)) {
      shares.push_back({.replicas = ReplicasThatFit(options_, threads), .threads = threads});
      // Where two of the cores that the system shows are one in truth, half as many may do as well.
      if (threads == 1 && options_.fixed.replicas == 0 && options_.cores > 1) {
        shares.push_back({.replicas = options_.cores / 2, .threads = 1});
      }
    }
    SetUsualBatch(shares.size());
    for (Share& share : shares) share.max_batch = usual_batch_;
    DLA_RETURN_IF_ERROR(Compare(shares, Throughput));
    return ChooseBatch(Choose(shares, kThreadTolerance, Throughput, TotalThreads),
                       kThroughputBatchTolerance);
  }

  absl::StatusOr<Share> ChooseForLatency() {
    std::vector<Share> shares;
    for (const int threads : ThreadChoices(options_)) {
      shares.push_back({.replicas = 1, .threads = threads, .max_batch = 1});
    }
    DLA_RETURN_IF_ERROR(Compare(shares, Quickness));
    Share best = Choose(shares, kThreadTolerance, Quickness, TotalThreads);
    best.replicas = ReplicasThatFit(options_, best.threads);
    SetUsualBatch(1);
    return ChooseBatch(best, kLatencyBatchTolerance);
  }

  // Leaves replicas and threads of `share` alone.
  absl::StatusOr<Share> ChooseBatch(Share share, double tolerance) {
    if (options_.fixed.max_batch > 0) {
      share.max_batch = options_.fixed.max_batch;
      return share;
    }
    // Upwards while twice the photos pay, then downwards while half of them cost nothing.
    std::vector<Share> shares;
    double best = 0;
    auto rate_of = [&](int batch) -> absl::StatusOr<double> {
      share.max_batch = batch;
      DLA_RETURN_IF_ERROR(MeasureIfThereIsTime(share));
      const Measurement* found = Find(share);
      if (found == nullptr) return 0;
      shares.push_back(share);
      best = std::max(best, ServedThroughput(*found));
      return ServedThroughput(*found);
    };
    for (int batch = usual_batch_; batch <= kLargestBatch; batch *= 2) {
      const double before = best;
      DLA_ASSIGN_OR_RETURN(const double rate, rate_of(batch));
      if (rate <= before * (1 + tolerance)) break;
    }
    for (int batch = usual_batch_ / 2; batch >= 1; batch /= 2) {
      DLA_ASSIGN_OR_RETURN(const double rate, rate_of(batch));
      if (rate < best * (1 - tolerance)) break;
    }
    share.max_batch = usual_batch_;
    if (shares.empty()) return share;
    return Choose(shares, tolerance, ServedThroughput, [](const Share& s) { return s.max_batch; });
  }

  // The least by `cost` of those whose merit is the highest or within `tolerance` of it; the first
  // of equals, and the first of all if none was measured.
  Share Choose(const std::vector<Share>& shares, double tolerance, Merit merit,
               int (*cost)(const Share&)) const {
    const double enough = BestMerit(shares, merit) * (1 - tolerance);
    const Share* chosen = nullptr;
    for (const Share& share : shares) {
      const Measurement* found = Find(share);
      if (found == nullptr || merit(*found) < enough) continue;
      if (chosen == nullptr || cost(share) < cost(*chosen)) chosen = &share;
    }
    return chosen != nullptr ? *chosen : shares.front();
  }

  double BestMerit(const std::vector<Share>& shares, Merit merit) const {
    double best = 0;
    for (const Share& share : shares) {
      if (const Measurement* found = Find(share)) best = std::max(best, merit(*found));
    }
    return best;
  }

  static double Throughput(const Measurement& m) { return m.speed.photos_per_second; }
  static double Quickness(const Measurement& m) {
    return m.speed.batch_seconds > 0 ? 1 / m.speed.batch_seconds : 0;
  }
  // Throughput with what a batch costs around its forward pass.
  static double ServedThroughput(const Measurement& m) {
    if (m.speed.photos_per_second <= 0) return 0;
    const double photos = double{1} * m.share.replicas * m.share.max_batch;
    return photos / (photos / m.speed.photos_per_second + kServingSecondsPerBatch);
  }

  // Measures each, then the better ones again, so that a short disturbance decides nothing.
  absl::Status Compare(const std::vector<Share>& shares, Merit merit) {
    if (shares.size() < 2) return absl::OkStatus();
    for (const Share& share : shares) DLA_RETURN_IF_ERROR(MeasureIfThereIsTime(share));
    const double enough = BestMerit(shares, merit) * kHopeful;
    const int repeats = options_.goal == Goal::kLatency ? kLatencyRepeats : 1;
    for (int i = 0; i < repeats; ++i) {
      for (const Share& share : shares) {
        const Measurement* found = Find(share);
        if (found == nullptr || merit(*found) < enough) continue;
        DLA_RETURN_IF_ERROR(MeasureIfThereIsTime(share));
      }
    }
    return absl::OkStatus();
  }

  absl::Status MeasureIfThereIsTime(const Share& share) {
    return HasTimeFor(share) ? Measure(share) : absl::OkStatus();
  }

  absl::Status Measure(const Share& share) {
    DLA_ASSIGN_OR_RETURN(const Speed speed, measure_(share));
    Measurement* known = FindIn(measured_, share);
    if (known == nullptr) {
      measured_.push_back({share, speed});
    } else if (speed.photos_per_second > known->speed.photos_per_second) {
      known->speed = speed;
    }
    return absl::OkStatus();
  }

  // Reckons with threads that do not help.
  bool HasTimeFor(const Share& share) const {
    const double seconds = kLeastPasses * share.max_batch * photo_seconds_;
    return Seconds(clock_.Now() - start_) + seconds <= Seconds(options_.budget);
  }

  // Smaller where comparing so many choices would leave no time for anything else.
  void SetUsualBatch(size_t choices) {
    usual_batch_ = options_.fixed.max_batch > 0 ? options_.fixed.max_batch : kUsualBatch;
    const double all = static_cast<double>(choices) * kLeastPasses * photo_seconds_;
    while (options_.fixed.max_batch == 0 && usual_batch_ > 1 &&
           all * usual_batch_ > kTimeToCompare * Seconds(options_.budget)) {
      usual_batch_ /= 2;
    }
  }

  const Measurement* Find(const Share& share) const { return FindIn(measured_, share); }

  const CalibrationOptions& options_;
  const MeasureFunction measure_;
  Clock& clock_;
  const TimePoint start_;
  double photo_seconds_ = 0;  // one photo by one replica
  int usual_batch_ = kUsualBatch;
  std::vector<Measurement> measured_;
};

}  // namespace

absl::StatusOr<Calibration> Calibrate(const CalibrationOptions& options, MeasureFunction measure,
                                      Clock& clock) {
  return Search(options, measure, clock).Run();
}

Share ShareByRule(const Share& fixed, int cores) {
  Share share = fixed;
  if (share.replicas == 0) share.replicas = std::max(1, cores / std::max(1, share.threads));
  if (share.threads == 0) share.threads = std::max(1, cores / share.replicas);
  if (share.max_batch == 0) share.max_batch = kDefaultBatch;
  return share;
}

std::string ToString(const Share& share) {
  return absl::StrCat(share.replicas, " x ", share.threads, ", batch ", share.max_batch);
}

}  // namespace dla::server
