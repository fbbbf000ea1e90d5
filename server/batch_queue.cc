#include "server/batch_queue.h"

#include <algorithm>
#include <utility>

#include "server/metrics.h"

namespace dla::server {

bool BatchQueue::Enqueue(Item& item) {
  MutexLock lock(mu_);
  if (closed_ || refusing_) return false;
  const Caller caller = item.context.caller;
  waiting_.Push(caller, std::move(item));
  // With the lock: once it is free, the photo may be answered and the queue be gone.
  changed_.NotifyOne();
  return true;
}

void BatchQueue::Push(Item item) {
  item.enqueued = clock_.Now();
  if (!Enqueue(item)) {
    item.place.Return();  // before the caller may come back
    std::move(item.context.done)(
        absl::UnavailableError("the model is being unloaded or restarted; try again"));
  }
}

void BatchQueue::WaitForBatch() {
  for (;;) {
    if (waiting_.empty()) {
      if (closed_) return;
      changed_.Wait(mu_);
      continue;
    }
    const bool full = waiting_.size() >= static_cast<size_t>(max_batch_);
    if (full || closed_ || options_.max_delay <= Duration::zero()) return;
    TimePoint oldest = TimePoint::max();
    waiting_.VisitOldest([&](const Item& item) { oldest = std::min(oldest, item.enqueued); });
    const TimePoint due = oldest + options_.max_delay;
    if (clock_.Now() >= due) return;
    clock_.WaitUntil(changed_, mu_, due);
  }
}

std::vector<BatchQueue::Item> BatchQueue::NextBatch() {
  std::vector<Item> batch;
  std::vector<std::pair<Item, absl::Status>> abandoned;
  bool finished = false;
  while (batch.empty() && !finished) {
    bool more = false;
    {
      MutexLock lock(mu_);
      WaitForBatch();
      finished = waiting_.empty();
      const TimePoint now = clock_.Now();
      while (!waiting_.empty() && batch.size() < static_cast<size_t>(max_batch_)) {
        Item item = waiting_.Pop();
        item.place.Return();
        absl::Status status = item.context.Abandoned(now);
        if (status.ok()) {
          batch.push_back(std::move(item));
        } else {
          abandoned.emplace_back(std::move(item), std::move(status));
        }
      }
      more = !waiting_.empty();
    }
    if (more) changed_.NotifyOne();
    for (auto& [item, status] : abandoned) {
      metrics_.CountAbandoned(status);
      std::move(item.context.done)(std::move(status));
    }
    abandoned.clear();
  }
  return batch;
}

int BatchQueue::LowerMaxBatch(int failed) {
  MutexLock lock(mu_);
  if (failed > max_batch_ || max_batch_ == 1) return 0;
  max_batch_ /= 2;
  return max_batch_;
}

std::vector<BatchQueue::Item> BatchQueue::SetRefusing(bool refusing) {
  std::vector<Item> items;
  MutexLock lock(mu_);
  refusing_ = refusing;
  while (refusing && !waiting_.empty()) {
    items.push_back(waiting_.Pop());
    items.back().place.Return();
  }
  return items;
}

void BatchQueue::Close() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  changed_.NotifyAll();
}

size_t BatchQueue::Ahead(const Caller& caller) const {
  MutexLock lock(mu_);
  return waiting_.Ahead(caller);
}

}  // namespace dla::server
