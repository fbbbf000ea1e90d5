// A server under load, whatever it speaks: an encoded photo in, its most probable classes out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dla::bench {

struct Candidate {
  int index = -1;
  std::string label;
  double probability = 0;
};

// Falling probability.
using Answer = std::vector<Candidate>;

// How many classes every server is asked for; an answer with another number of them is an error.
inline constexpr int kTopK = 5;

// No server may take longer for one request.
inline constexpr int kRequestTimeoutS = 60;

class LoadTarget {
 public:
  using Done = std::function<void(absl::StatusOr<Answer>)>;

  // No request may be under way.
  virtual ~LoadTarget() = default;

  // Sends photo number `photo` and returns at once. `done` is called exactly once, from a thread of
  // the target's, and may call Send. Thread-safe.
  virtual void Send(size_t photo, Done done) = 0;
};

// The requests are serialised here, once. `photos` are encoded bytes. Nothing is connected yet: a
// server that is not there shows as failed requests.

struct DlaRequestOptions {
  std::string client;  // metadata "client-id" of every request, unless it is empty
  bool bulk = false;
  int connections = 1;
};

// dla.v1.Classifier/Classify at host:port.
std::unique_ptr<LoadTarget> MakeDlaTarget(const std::string& address, const std::string& model,
                                          const std::vector<std::string>& photos,
                                          const DlaRequestOptions& options = {});

// inference.GRPCInferenceService/ModelInfer at host:port. The model takes one BYTES element named
// IMAGE and answers with kTopK BYTES elements named TOP, "probability:index:label" each.
std::unique_ptr<LoadTarget> MakeKserveTarget(const std::string& address, const std::string& model,
                                             const std::vector<std::string>& photos);

struct PixelsOptions {
  int side = 256;              // pixels; what the model resizes photos to costs the server least
  int photos_per_request = 1;  // at most 256
  bool shared_memory = false;  // the server was started with --allow-shared-memory true
  int connections = 1;
};

// The same call of a dla-server with raw RGB as the input "pixels": photos that need no decoding.
// Pictures are made here. Each Send is a request of photos_per_request of them; the answer is that
// to the first one. With shared memory the pictures do not travel with the requests, and errors are
// those of making and registering it.
absl::StatusOr<std::unique_ptr<LoadTarget>> MakePixelsTarget(const std::string& address,
                                                             const std::string& model,
                                                             const PixelsOptions& options);

// POST of the photo to `url` ("http://host:port/path"), one connection for each request in flight.
// The answer is [{"index": 207, "label": "...", "probability": 0.5}, ...].
// INVALID_ARGUMENT for a URL that is none.
absl::StatusOr<std::unique_ptr<LoadTarget>> MakeHttpTarget(const std::string& url,
                                                           std::vector<std::string> photos);

}  // namespace dla::bench
