// Which decoder is faster on this machine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/input_spec.h"
#include "server/clock.h"
#include "server/pipeline.h"

namespace dla::server {

struct DecoderCandidate {
  std::string name;
  DecodeFunction decode;  // with nothing behind it that would hide a failure
};

struct DecoderTrial {
  std::vector<std::string> photos;  // at least one; taken in turn
  InputSpec input;
  int threads = 1;
  std::function<void()> prepare_thread;  // called first by each of them; may be empty
  // How far a candidate's pixels may be from those of the first one, mean over a photo, of 255.
  double max_mean_difference = 0;
  Duration time = std::chrono::milliseconds(300);  // of each candidate
};

struct DecoderResult {
  absl::Status status;         // why it cannot decode the photos; the rest is 0 then
  double mean_difference = 0;  // from the first candidate's pixels, the worst of the photos
  double photos_per_second = 0;
};

struct DecoderChoice {
  size_t chosen = 0;  // of the candidates
  std::string why;    // in words, with figures
  std::vector<DecoderResult> results;
};

// Another decoder than the processor has to be faster by this factor: it takes the card's time.
inline constexpr double kDecoderAdvantage = 1.1;

// Has every candidate decode the photos, in all threads at once. The first one is the processor's:
// it is chosen unless another one's pixels are near enough to its own and it is faster.
// candidates: at least one.
DecoderChoice ChooseDecoder(absl::Span<const DecoderCandidate> candidates,
                            const DecoderTrial& trial, Clock& clock);

// A photo of the usual size, 0.23 megapixels, for a trial.
absl::StatusOr<std::string> MakeTrialPhoto();

}  // namespace dla::server
