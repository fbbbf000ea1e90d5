// Threads that turn encoded photos into pixels.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "server/clock.h"
#include "server/fair_queue.h"
#include "server/mutex.h"

namespace dla::server {

// Runs as many tasks at a time as there are threads, callers taking turns, see FairQueue. What
// waits is bounded by the caller: a photo is submitted only with a place in its model's queue.
// Thread-safe.
class DecodePool {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // Starts `threads` >= 1 threads; each calls `prepare_thread` first.
  DecodePool(int threads, std::function<void()> prepare_thread, Clock& clock);

  // Runs what was submitted, then ends the threads.
  ~DecodePool();

  DecodePool(const DecodePool&) = delete;
  DecodePool& operator=(const DecodePool&) = delete;

  // Never blocks. Not to be called once the destructor has begun.
  void Submit(const Caller& caller, Task task);

  // How long a task that comes now will wait, judged by how long the last ones took.
  Duration PredictedWait(const Caller& caller) const;

 private:
  void Work();

  const std::function<void()> prepare_thread_;
  Clock& clock_;
  mutable Mutex mu_;
  CondVar changed_;
  FairQueue<Task> tasks_ ABSL_GUARDED_BY(mu_);
  Duration task_time_ ABSL_GUARDED_BY(mu_){};  // moving average
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace dla::server
