// One photo on its way through the server, and the answer that it gets.
#pragma once

#include <atomic>
#include <memory>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image.h"
#include "model/top_k.h"
#include "server/caller.h"
#include "server/clock.h"

namespace dla::server {

// Set by the caller's side when nobody waits for the answer any more. Thread-safe.
using CancelFlag = std::atomic<bool>;

// What a caller sends of one photo. What it points to stays readable until the photo is answered.
struct EncodedPhoto {
  absl::string_view bytes;  // JPEG, PNG or WebP
};
struct RawPhoto {
  absl::string_view pixels;  // height x width x 3 bytes of RGB; any size, resized by the server
  int height;
  int width;
};
struct NormalizedPhoto {
  absl::string_view values;  // 3 x input height x input width of float32, little-endian
};
using PhotoSource = std::variant<EncodedPhoto, RawPhoto, NormalizedPhoto>;

// What of an answer is wanted; only that is computed.
struct ClassifyOptions {
  int top_k = 5;  // 0 .. number of classes
  bool include_embedding = false;
  bool normalize_embedding = false;
  bool include_logits = false;
  bool include_probabilities = false;
};

struct Timing {
  Duration decode{};
  Duration queue{};
  Duration inference{};
  int batch_size = 0;
  bool cached = false;  // from the response cache; the rest is 0 then
};

struct Answer {
  std::vector<ClassProbability> classes;  // falling probability
  // Empty unless asked for.
  std::vector<float> embedding;
  std::vector<float> logits;
  std::vector<float> probabilities;
  Timing timing;
};

// Called exactly once for every photo that enters the server, from any of its threads. Must not
// block.
using AnswerCallback = absl::AnyInvocable<void(absl::StatusOr<Answer>) &&>;

// What of a request stays with the photo from the door to the answer.
struct PhotoContext {
  ClassifyOptions options;
  Caller caller = {};
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<const CancelFlag> cancelled;  // null: cannot be cancelled
  std::shared_ptr<const CancelFlag> failed;     // another photo of the request has; may be null
  AnswerCallback done;

  // CANCELLED or DEADLINE_EXCEEDED if nobody waits for this photo any more.
  absl::Status Abandoned(TimePoint now) const {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return absl::CancelledError("the caller cancelled the request");
    }
    if (failed != nullptr && failed->load(std::memory_order_relaxed)) {
      return absl::CancelledError("another photo of the request failed");
    }
    if (now >= deadline) {
      return absl::DeadlineExceededError("the deadline passed before the photo's turn came");
    }
    return absl::OkStatus();
  }
};

}  // namespace dla::server
