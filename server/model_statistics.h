// What the Open Inference Protocol's ModelStatistics tells of one loaded model.
#pragma once

#include <cstdint>
#include <map>

#include "inference/grpc_service.pb.h"
#include "server/clock.h"
#include "server/mutex.h"

namespace dla::server {

// Times of one forward pass; all but `inference` are sums over its photos.
struct BatchTimes {
  int photos = 0;
  Duration decode{};
  Duration queue{};
  Duration inference{};
  Duration output{};
};

// Counts from the moment when the model was loaded. Thread-safe.
class ModelStatistics {
 public:
  void AddRequest(bool ok, Duration took);
  void AddBatch(const BatchTimes& times);
  // A photo that the response cache answered, or had to be computed; `took` until that was known.
  void AddCacheHit(Duration took);
  void AddCacheMiss(Duration took);

  // All but the name and the version. Requests count in success and fail, photos in queue and the
  // compute stages.
  void Fill(inference::ModelStatistics& message) const;

 private:
  struct Total {
    uint64_t count = 0;
    Duration time{};

    void Add(uint64_t times, Duration took) {
      count += times;
      time += took;
    }
  };
  struct BatchTotals {
    Total input, infer, output;
  };
  static void FillTotal(const Total& total, inference::StatisticDuration& message);

  mutable Mutex mu_;
  uint64_t last_inference_ms_ ABSL_GUARDED_BY(mu_) = 0;  // since 1970
  uint64_t photos_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t batches_ ABSL_GUARDED_BY(mu_) = 0;
  Total success_ ABSL_GUARDED_BY(mu_);
  Total fail_ ABSL_GUARDED_BY(mu_);
  Total queue_ ABSL_GUARDED_BY(mu_);
  Total input_ ABSL_GUARDED_BY(mu_);
  Total infer_ ABSL_GUARDED_BY(mu_);
  Total output_ ABSL_GUARDED_BY(mu_);
  Total cache_hit_ ABSL_GUARDED_BY(mu_);
  Total cache_miss_ ABSL_GUARDED_BY(mu_);
  std::map<int, BatchTotals> by_size_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
