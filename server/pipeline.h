// The way of one photo: admission at the door, decoding, the model's queue.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image.h"
#include "model/image_codec.h"
#include "model/input_spec.h"
#include "server/clock.h"
#include "server/decode_pool.h"
#include "server/photo.h"
#include "server/response_cache.h"
#include "server/served_model.h"

namespace dla::server {

// Encoded bytes to spec.height x spec.width pixels in `memory` (null: on the heap), unless
// `proceed` says otherwise; called by several threads at once.
using DecodeFunction =
    std::function<absl::StatusOr<Image>(absl::string_view bytes, const InputSpec& spec,
                                        Proceed proceed, std::shared_ptr<PixelMemory> memory)>;

// Pixels of an encoded photo as its header declares them, whatever follows; called by several
// threads at once, those of gRPC among them, so it takes some microseconds only. INVALID_ARGUMENT
// when it is no photo or too large a one.
using PixelsFunction = std::function<absl::StatusOr<int64_t>(absl::string_view bytes)>;

// Thread-safe. Holds a model for as long as one of its photos is unanswered.
class Pipeline {
 public:
  struct Options {
    int decode_threads = 1;
    std::function<void()> prepare_decode_thread;  // called first by each of them; may be empty
    Duration max_decode = Duration::max();        // of one photo
    ResponseCache* cache = nullptr;  // outlives all photos; null: every photo is computed
    Budget* pixels = nullptr;        // the server's; outlives all photos; null: without limit
    PixelsFunction count_pixels;     // empty: pixels of encoded photos are not counted
  };

  Pipeline(const Options& options, DecodeFunction decode, Clock& clock);

  // Prepares what was submitted. The models may answer it afterwards.
  ~Pipeline();

  // Takes one photo; never blocks. context.done is called exactly once, perhaps before this
  // returns: RESOURCE_EXHAUSTED (with RetryInfo) when the model's queue or a budget of pixels has
  // no room, INVALID_ARGUMENT when the bytes are no photo or not as many as a normalised one has,
  // CANCELLED and DEADLINE_EXCEEDED when nobody waits any more or will when the photo's turn comes,
  // INTERNAL when the forward pass fails. The sizes that `photo` states are those of its bytes.
  void Submit(std::shared_ptr<ServedModel> model, PhotoSource photo, PhotoContext context);

 private:
  // One of the two, as in BatchQueue::Item.
  struct Prepared {
    Image pixels;
    std::vector<float> normalized;
  };

  // A photo between the door and the model's queue. Its context holds the model.
  struct Job;
  // Lets photos that waited for an equal one come back to the decode pool while there is one.
  struct Gate;

  // Takes the photo's part of all budgets; counts what is refused.
  absl::Status Admit(Job& job) const;
  absl::Status TakePixels(Job& job) const;

  // These run on the decode pool.
  void Start(Job job);
  void AskCache(Job job);
  void Compute(Job job);
  absl::StatusOr<Prepared> Prepare(const Job& job) const;
  absl::StatusOr<Image> Decode(absl::string_view bytes, const Job& job) const;

  const DecodeFunction decode_;
  Clock& clock_;
  ResponseCache* const cache_;
  const Duration max_decode_;
  Budget* const pixels_;
  const PixelsFunction count_pixels_;
  const std::shared_ptr<Gate> gate_;
  DecodePool pool_;
};

}  // namespace dla::server
