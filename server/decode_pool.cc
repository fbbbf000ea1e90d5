#include "server/decode_pool.h"

#include <utility>

namespace dla::server {

DecodePool::DecodePool(int threads, std::function<void()> prepare_thread)
    : prepare_thread_(std::move(prepare_thread)) {
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

void DecodePool::Submit(Task task) {
  {
    MutexLock lock(mu_);
    tasks_.push_back(std::move(task));
  }
  changed_.NotifyOne();
}

void DecodePool::Work() {
  if (prepare_thread_) prepare_thread_();
  for (;;) {
    Task task;
    {
      MutexLock lock(mu_);
      while (tasks_.empty() && !closed_) changed_.Wait(mu_);
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    std::move(task)();
  }
}

}  // namespace dla::server
