// Threads that turn encoded photos into pixels.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "server/mutex.h"

namespace dla::server {

// Runs tasks in the order of their submission, as many at a time as there are threads. What waits
// is bounded by the caller: a photo is submitted only with a place in its model's queue.
// Thread-safe.
class DecodePool {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // Starts `threads` >= 1 threads; each calls `prepare_thread` first.
  DecodePool(int threads, std::function<void()> prepare_thread);

  // Runs what was submitted, then ends the threads.
  ~DecodePool();

  DecodePool(const DecodePool&) = delete;
  DecodePool& operator=(const DecodePool&) = delete;

  // Never blocks. Not to be called once the destructor has begun.
  void Submit(Task task);

 private:
  void Work();

  const std::function<void()> prepare_thread_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace dla::server
