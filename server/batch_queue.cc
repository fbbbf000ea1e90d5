#include "server/batch_queue.h"

#include <utility>

#include "server/metrics.h"

namespace dla::server {

BatchQueue::BatchQueue(const Options& options, ModelMetrics& metrics, Clock& clock)
    : options_(options), metrics_(metrics), clock_(clock) {
  metrics_.queue_capacity->Increment(static_cast<double>(options_.capacity));
}

BatchQueue::~BatchQueue() {
  metrics_.queue_capacity->Decrement(static_cast<double>(options_.capacity));
}

std::optional<BatchQueue::Place> BatchQueue::TryReserve() {
  MutexLock lock(mu_);
  if (reserved_ >= options_.capacity) return std::nullopt;
  ++reserved_;
  metrics_.queue_depth->Increment();
  return Place(this);
}

void BatchQueue::Release() {
  MutexLock lock(mu_);
  --reserved_;
  metrics_.queue_depth->Decrement();
}

bool BatchQueue::Enqueue(Item& item, Place& place) {
  MutexLock lock(mu_);
  if (closed_) return false;
  waiting_.push_back(std::move(item));
  place.queue_ = nullptr;  // NextBatch gives the place back
  // With the lock: once it is free, the photo may be answered and the queue be gone.
  changed_.NotifyOne();
  return true;
}

void BatchQueue::Push(Item item, Place place) {
  item.enqueued = clock_.Now();
  if (!Enqueue(item, place)) {
    { const Place freed = std::move(place); }  // before the caller may come back
    std::move(item.context.done)(absl::UnavailableError("the model is being unloaded; try again"));
  }
}

void BatchQueue::WaitForBatch() {
  for (;;) {
    if (waiting_.empty()) {
      if (closed_) return;
      changed_.Wait(mu_);
      continue;
    }
    const bool full = waiting_.size() >= static_cast<size_t>(options_.max_batch);
    if (full || closed_ || options_.max_delay <= Duration::zero()) return;
    const TimePoint due = waiting_.front().enqueued + options_.max_delay;
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
      while (!waiting_.empty() && batch.size() < static_cast<size_t>(options_.max_batch)) {
        Item item = std::move(waiting_.front());
        waiting_.pop_front();
        --reserved_;
        metrics_.queue_depth->Decrement();
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

void BatchQueue::Close() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  changed_.NotifyAll();
}

size_t BatchQueue::reserved() const {
  MutexLock lock(mu_);
  return reserved_;
}

}  // namespace dla::server
