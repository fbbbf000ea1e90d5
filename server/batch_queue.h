// The photos that wait for one model, and the only policy by which they become batches.
#pragma once

#include <cstddef>
#include <vector>

#include "server/budget.h"
#include "server/clock.h"
#include "server/fair_queue.h"
#include "server/mutex.h"
#include "server/photo.h"

namespace dla::server {

class ModelMetrics;

// Replicas pull: whoever is idle takes what waits, at once, so batches grow by themselves while all
// replicas are busy and a lone photo never waits for company.
//
// Callers take turns, see FairQueue. How many photos may wait is not decided here: each brings its
// place in the model's budget, which is given back when its batch forms.
//
// Thread-safe. All waiting photos must be taken before it is destroyed.
class BatchQueue {
 public:
  struct Options {
    // Most photos in one batch.
    int max_batch = 8;

    // How long the oldest waiting photo may be held back so that a batch can fill. 0, the default,
    // never holds back. Worth setting where inference costs the same for few photos as for many.
    Duration max_delay{};
  };

  struct Item {
    PhotoContext context;
    Budget::Share place{};
    Image pixels{};
    std::vector<float> normalized{};  // instead of pixels where the caller normalised, else empty
    Duration decode{};                // how long decoding took
    TimePoint enqueued{};             // set by Push
  };

  // `metrics` and `clock` outlive the queue.
  BatchQueue(const Options& options, ModelMetrics& metrics, Clock& clock)
      : options_(options), metrics_(metrics), clock_(clock), max_batch_(options.max_batch) {}

  BatchQueue(const BatchQueue&) = delete;
  BatchQueue& operator=(const BatchQueue&) = delete;

  // Queues a photo. After Close it is answered with UNAVAILABLE instead.
  void Push(Item item);

  // Blocks until there is a batch: 1 to max_batch photos in the order of their turns. Photos that
  // were cancelled or whose deadline has passed are answered and left out. Empty once the queue is
  // closed and nothing waits.
  std::vector<Item> NextBatch();

  // A batch of so many photos was too large: halves the largest batch, at least 1, unless that was
  // done since. The new one, or 0 if it stays as it is.
  int LowerMaxBatch(int failed);

  // While refusing, pushed photos are answered with UNAVAILABLE. When that begins, those that wait
  // are taken out for the caller to answer.
  std::vector<Item> SetRefusing(bool refusing);

  // Ends the waiting for more: NextBatch hands out what is left, then nothing. Idempotent.
  void Close();

  // About how many photos go before one that comes now.
  size_t Ahead(const Caller& caller) const;

  const Options& options() const { return options_; }

 private:
  // Leaves `item` alone and returns false when the queue is closed or refusing.
  bool Enqueue(Item& item);
  void WaitForBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  ModelMetrics& metrics_;
  Clock& clock_;

  mutable Mutex mu_;
  CondVar changed_;
  FairQueue<Item> waiting_ ABSL_GUARDED_BY(mu_);
  int max_batch_ ABSL_GUARDED_BY(mu_);
  bool refusing_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace dla::server
