// What the fates of a model's replicas say about the model.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/batch_queue.h"
#include "server/metrics.h"
#include "server/mutex.h"

namespace dla::server {

enum class ReplicaState {
  kWorking,
  kRecovering,  // being rebuilt for the first time since it worked
  kFailing,     // being rebuilt again, or it cannot be
};

// A model is healthy unless all of its replicas are failing or kMostFailures batches in a row came
// to nothing. A success of any replica, be it a trial's, turns that back. While all are failing the
// queue refuses photos, those that wait too. Thread-safe.
class ModelHealth {
 public:
  static constexpr int kMostFailures = 3;

  // All replicas work. `queue` and `metrics` outlive the object; `on_change` is called, without a
  // lock, after healthy() has changed; may be empty.
  ModelHealth(std::string model, int replicas, BatchQueue& queue, ModelMetrics& metrics,
              std::function<void()> on_change);

  bool healthy() const { return healthy_.load(std::memory_order_acquire); }

  // OK, or UNAVAILABLE with the reason while all replicas are failing.
  absl::Status CheckAvailable() const {
    return refusing_.load(std::memory_order_acquire) ? Refusal() : absl::OkStatus();
  }

  // Why the model is not healthy; empty if it is.
  std::string reason() const;

  // A batch, or part of one, succeeded. No lock unless one had failed before.
  void Succeeded() {
    if (failures_.load(std::memory_order_relaxed) > 0) ForgetFailures();
  }

  // No photo of a batch could be classified.
  void Failed(const absl::Status& why);

  // A replica's state changes; `why` is empty if there is nothing new to tell.
  void Move(ReplicaState from, ReplicaState to, absl::string_view why = "");

 private:
  // What is to be told once the lock is free.
  struct News {
    bool turned = false;  // healthy() did
    std::string why;
    std::vector<BatchQueue::Item> refused;
  };

  absl::Status Refusal() const;
  void ForgetFailures();
  News Judge() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Tell(News news);

  const std::string model_;
  const int replicas_;
  BatchQueue& queue_;
  ModelMetrics& metrics_;
  const std::function<void()> on_change_;

  // Written with mu_ held.
  std::atomic<bool> healthy_ = true;
  std::atomic<bool> refusing_ = false;
  std::atomic<int> failures_ = 0;  // in a row

  mutable Mutex mu_;
  std::array<int, 3> replicas_in_ ABSL_GUARDED_BY(mu_){};
  std::string why_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
