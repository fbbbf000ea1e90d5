// The calls that are under way, so that a shutdown can wait for them.
#pragma once

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "server/clock.h"
#include "server/mutex.h"

namespace dla::server {

// A call that carries many messages.
class OpenStream {
 public:
  // Read nothing more, and end once all that was read is answered. Thread-safe, idempotent. Called
  // with the tracker's lock held, so it calls nothing of the tracker.
  virtual void Drain() = 0;

 protected:
  ~OpenStream() = default;
};

// Thread-safe.
class CallTracker {
 public:
  explicit CallTracker(Clock& clock) : clock_(clock) {}

  // A unary call asks to begin: UNAVAILABLE once draining. If it may, it says when it is over.
  absl::Status Enter();
  void Leave();

  // A stream begins, which is drained at once if that is under way; and is over.
  void Add(OpenStream& stream);
  void Remove(OpenStream& stream);

  // New calls are refused from now on, streams told to end. True once all calls are over, false at
  // `deadline`.
  bool Drain(TimePoint deadline);

 private:
  Clock& clock_;
  Mutex mu_;
  CondVar call_ended_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  int unary_calls_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_set<OpenStream*> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
