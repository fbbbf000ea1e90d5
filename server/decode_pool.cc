#include "server/decode_pool.h"

#include <utility>

namespace dla::server {

DecodePool::DecodePool(int threads, std::function<void()> prepare_thread, Clock& clock)
    : prepare_thread_(std::move(prepare_thread)), clock_(clock) {
  threads_.reserve(threads);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

DecodePool::~DecodePool() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void DecodePool::Submit(const Caller& caller, Task task) {
  {
    MutexLock lock(mu_);
    tasks_.Push(caller, std::move(task));
  }
  changed_.NotifyOne();
}

Duration DecodePool::PredictedWait(const Caller& caller) const {
  MutexLock lock(mu_);
  return tasks_.Ahead(caller) * task_time_ / threads_.size();
}

void DecodePool::Work() {
  if (prepare_thread_) prepare_thread_();
  Duration took{};
  for (;;) {
    Task task;
    {
      MutexLock lock(mu_);
      task_time_ += (took - task_time_) / 8;
      while (tasks_.empty() && !closed_) changed_.Wait(mu_);
      if (tasks_.empty()) return;
      task = tasks_.Pop();
    }
    const TimePoint start = clock_.Now();
    std::move(task)();
    took = clock_.Now() - start;
  }
}

}  // namespace dla::server
