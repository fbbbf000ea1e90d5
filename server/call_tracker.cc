#include "server/call_tracker.h"

namespace dla::server {

absl::Status CallTracker::Enter() {
  MutexLock lock(mu_);
  if (draining_) return absl::UnavailableError("the server is shutting down; ask another one");
  ++unary_calls_;
  return absl::OkStatus();
}

void CallTracker::Leave() {
  MutexLock lock(mu_);
  --unary_calls_;
  // Under the lock: once Drain sees the last call gone, this object may be destroyed.
  call_ended_.NotifyAll();
}

void CallTracker::Add(OpenStream& stream) {
  MutexLock lock(mu_);
  streams_.insert(&stream);
  if (draining_) stream.Drain();
}

void CallTracker::Remove(OpenStream& stream) {
  MutexLock lock(mu_);
  streams_.erase(&stream);
  call_ended_.NotifyAll();
}

bool CallTracker::Drain(TimePoint deadline) {
  MutexLock lock(mu_);
  draining_ = true;
  for (OpenStream* stream : streams_) stream->Drain();
  while (unary_calls_ > 0 || !streams_.empty()) {
    if (clock_.Now() >= deadline) return false;
    clock_.WaitUntil(call_ended_, mu_, deadline);
  }
  return true;
}

}  // namespace dla::server
