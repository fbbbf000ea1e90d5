// Where many threads put items for one.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace dla::client {

// Thread-safe. A std::mutex, since ThreadSanitizer does not see into the distribution's
// absl::Mutex; every method locks it, so that no annotations are missed.
template <typename T>
class Mailbox {
 public:
  void Put(T item) {
    const std::lock_guard lock(mu_);
    items_.push_back(std::move(item));
    // Under the lock: once the last item is taken, the mailbox may be destroyed.
    changed_.notify_one();
  }

  // From now on, Take does not wait.
  void Close() {
    const std::lock_guard lock(mu_);
    closed_ = true;
    changed_.notify_one();
  }

  bool closed() const {
    const std::lock_guard lock(mu_);
    return closed_;
  }

  // All items, once there is one, the mailbox is closed or the time has come.
  std::vector<T> Take(absl::Time until) {
    std::unique_lock lock(mu_);
    const auto woken = [this] { return closed_ || !items_.empty(); };
    if (until == absl::InfiniteFuture()) {
      changed_.wait(lock, woken);
    } else {
      changed_.wait_until(lock, absl::ToChronoTime(until), woken);
    }
    return std::exchange(items_, {});
  }

  // All items, once there are `count`, closed or not.
  std::vector<T> TakeAll(size_t count) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return items_.size() >= count; });
    return std::exchange(items_, {});
  }

 private:
  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::vector<T> items_;  // guarded by mu_, like closed_
  bool closed_ = false;
};

}  // namespace dla::client
