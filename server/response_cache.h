// Answers that were given before, kept for equal photos.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/mutex.h"
#include "server/photo.h"
#include "server/served_model.h"

namespace dla::server {

// SHA-256 of all that an answer depends on: the photo, what of the answer is wanted, and the loaded
// model by name, version and instance.
using ResponseKey = std::array<uint8_t, 32>;

// Reads the whole photo: for each megabyte 0.6 ms, 2 ms where the processor has no instructions for
// SHA-256. INTERNAL when OpenSSL cannot hash.
absl::StatusOr<ResponseKey> ResponseKeyOf(const ServedModel& model, const PhotoSource& photo,
                                          const ClassifyOptions& options);

// Bounded by bytes; the least recently used answers go first. Photos that arrive while an equal one
// is being computed wait for its answer, as callbacks: no thread waits.
//
// Thread-safe. Must outlive every photo that went through it.
class ResponseCache {
 public:
  // Where a photo is told to compute: on the thread that called Serve, while it does; or on the
  // thread on which another one failed, which must not be held up.
  enum class Turn { kNow, kLater };

  // Computes a photo's answer and gives it to the context.
  using Compute = absl::AnyInvocable<void(PhotoContext, Turn) &&>;

  // `max_bytes` bounds the answers together with what it takes to keep them.
  ResponseCache(int64_t max_bytes, Metrics& metrics, Clock& clock);

  ResponseCache(const ResponseCache&) = delete;
  ResponseCache& operator=(const ResponseCache&) = delete;

  // Answers a photo from the cache, or lets it wait for an equal one that is being computed, or
  // calls `compute`, to which it gives the context with a `done` that answers those who wait, too.
  //
  // Whoever computes may fail for a reason of its own: cancelled, too late, out of resources. Then
  // the next one that waits is told to compute. All other errors are those of the photo or the
  // model and go to all that wait; they are not kept.
  //
  // Where `compute` is not called, it is destroyed before context.done is called.
  void Serve(const ResponseKey& key, ModelMetrics& metrics, PhotoContext context, Compute compute);

 private:
  struct Waiter {
    PhotoContext context;
    Compute compute;
    ModelMetrics* metrics;
  };
  struct Entry {
    ResponseKey key;
    Answer answer;
    size_t bytes;
  };
  using Entries = std::list<Entry>;

  PhotoContext Lead(const ResponseKey& key, ModelMetrics& metrics, PhotoContext context);
  void Finish(const ResponseKey& key, AnswerCallback done, absl::StatusOr<Answer> answer);
  void PassOn(const ResponseKey& key);
  // Answers somebody who did not compute.
  void Reply(Waiter waiter, absl::StatusOr<Answer> answer);

  // Answers that fall out are moved to `dropped`, to be freed without the lock.
  void Keep(const ResponseKey& key, const Answer& answer, Entries& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t max_bytes_;
  Clock& clock_;
  const std::unique_ptr<CacheMetrics> metrics_;

  Mutex mu_;
  Entries entries_ ABSL_GUARDED_BY(mu_);  // last used first
  absl::flat_hash_map<ResponseKey, Entries::iterator> by_key_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  // Who waits for what is being computed.
  absl::flat_hash_map<ResponseKey, std::deque<Waiter>> computing_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
