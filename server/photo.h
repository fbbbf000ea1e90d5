// One photo on its way through the server, and the answer that it gets.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "model/image.h"
#include "model/top_k.h"
#include "server/clock.h"

namespace dla::server {

// Set by the caller's side when nobody waits for the answer any more. Thread-safe.
using CancelFlag = std::atomic<bool>;

struct ClassifyOptions {
  int top_k = 5;  // 1 .. number of classes
  bool include_embedding = false;
  bool normalize_embedding = false;
};

struct Timing {
  Duration decode{};
  Duration queue{};
  Duration inference{};
  int batch_size = 0;
};

struct Answer {
  std::vector<ClassProbability> classes;  // falling probability
  std::vector<float> embedding;           // empty unless asked for
  Timing timing;
};

// Called exactly once for every photo that enters the server, from any of its threads. Must not
// block.
using AnswerCallback = absl::AnyInvocable<void(absl::StatusOr<Answer>) &&>;

// What of a request stays with the photo from the door to the answer.
struct PhotoContext {
  ClassifyOptions options;
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<const CancelFlag> cancelled;  // null: cannot be cancelled
  AnswerCallback done;

  // CANCELLED or DEADLINE_EXCEEDED if nobody waits for this photo any more.
  absl::Status Abandoned(TimePoint now) const {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return absl::CancelledError("the caller cancelled the request");
    }
    if (now >= deadline) {
      return absl::DeadlineExceededError("the deadline passed before the photo's turn came");
    }
    return absl::OkStatus();
  }
};

}  // namespace dla::server
