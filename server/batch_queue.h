// The photos that wait for one model, and the only policy by which they become batches.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/clock.h"
#include "server/mutex.h"
#include "server/photo.h"

namespace dla::server {

class ModelMetrics;

// Replicas pull: whoever is idle takes what waits, at once, so batches grow by themselves while all
// replicas are busy and a lone photo never waits for company.
//
// A place is reserved before a photo is decoded, so a photo that cannot be queued costs nothing.
// Invariant: reserved_ <= capacity, and every waiting photo holds one of the reserved places.
//
// Thread-safe. Must outlive every Place. All waiting photos must be taken before it is destroyed.
class BatchQueue {
 public:
  struct Options {
    // Photos that may wait, the ones still being decoded included. More means fewer refusals and
    // longer waits; each holds height x width x 3 bytes, or 4 times as many where the caller
    // normalised it.
    size_t capacity = 512;

    // Most photos in one batch.
    int max_batch = 8;

    // How long the oldest waiting photo may be held back so that a batch can fill. 0, the default,
    // never holds back. Worth setting where inference costs the same for few photos as for many.
    Duration max_delay{};
  };

  // The right to push one photo. Given back when destroyed.
  class Place {
   public:
    Place(Place&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(queue_, other.queue_);
      return *this;
    }
    ~Place() {
      if (queue_ != nullptr) queue_->Release();
    }

   private:
    friend class BatchQueue;
    explicit Place(BatchQueue* queue) : queue_(queue) {}
    BatchQueue* queue_;
  };

  struct Item {
    PhotoContext context;
    Image pixels;
    std::vector<float> normalized{};  // instead of pixels where the caller normalised, else empty
    Duration decode{};                // how long decoding took
    TimePoint enqueued{};             // set by Push
  };

  // `metrics` and `clock` outlive the queue.
  BatchQueue(const Options& options, ModelMetrics& metrics, Clock& clock);
  ~BatchQueue();

  BatchQueue(const BatchQueue&) = delete;
  BatchQueue& operator=(const BatchQueue&) = delete;

  // Nothing when all places are taken.
  std::optional<Place> TryReserve();

  // Queues a photo; the place is held until a batch takes it. After Close the photo is answered
  // with UNAVAILABLE instead.
  void Push(Item item, Place place);

  // Blocks until there is a batch: 1 to max_batch photos in the order of their arrival. Photos that
  // were cancelled or whose deadline has passed are answered and left out. Empty once the queue is
  // closed and nothing waits.
  std::vector<Item> NextBatch();

  // Ends the waiting for more: NextBatch hands out what is left, then nothing. Idempotent.
  void Close();

  // Places taken: photos that wait or are being decoded.
  size_t reserved() const;

  const Options& options() const { return options_; }

 private:
  void Release();
  // Takes both, or leaves both alone and returns false when the queue is closed.
  bool Enqueue(Item& item, Place& place);
  void WaitForBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  ModelMetrics& metrics_;
  Clock& clock_;

  mutable Mutex mu_;
  CondVar changed_;
  size_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<Item> waiting_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace dla::server
