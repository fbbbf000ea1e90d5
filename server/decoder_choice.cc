#include "server/decoder_choice.h"

#include <algorithm>
#include <cstdlib>
#include <latch>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "model/codec/jpeg_writer.h"
#include "model/image_codec.h"
#include "model/self_test.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

double MeanDifference(const Image& a, const Image& b) {
  if (a.pixels.size() != b.pixels.size() || a.pixels.empty()) return 255;
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(a.pixels[i] - b.pixels[i]);
  return sum / static_cast<double>(a.pixels.size());
}

absl::StatusOr<double> WorstDifference(const DecoderCandidate& candidate,
                                       const DecoderCandidate& first, const DecoderTrial& trial) {
  double worst = 0;
  for (const std::string& photo : trial.photos) {
    DLA_ASSIGN_OR_RETURN(const Image image, candidate.decode(photo, trial.input, nullptr, nullptr));
    DLA_ASSIGN_OR_RETURN(const Image expected, first.decode(photo, trial.input, nullptr, nullptr));
    worst = std::max(worst, MeanDifference(image, expected));
  }
  return worst;
}

// Photos per second of all threads together.
absl::StatusOr<double> Measure(const DecoderCandidate& candidate, const DecoderTrial& trial,
                               Clock& clock) {
  std::latch ready(trial.threads);
  std::vector<absl::StatusOr<double>> rates(trial.threads, 0.0);
  const auto work = [&](absl::StatusOr<double>& rate) {
    if (trial.prepare_thread) trial.prepare_thread();
    size_t next = 0;
    const auto decode = [&] {
      const std::string& photo = trial.photos[next++ % trial.photos.size()];
      return candidate.decode(photo, trial.input, nullptr, nullptr).status();
    };
    absl::Status status = decode();  // makes buffers
    ready.arrive_and_wait();
    const TimePoint begin = clock.Now();
    Duration elapsed{};
    int count = 0;
    while (status.ok() && elapsed < trial.time) {
      status = decode();
      ++count;
      elapsed = clock.Now() - begin;
    }
    if (!status.ok()) {
      rate = status;
    } else {
      rate = count / Seconds(elapsed);
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(trial.threads);
  for (absl::StatusOr<double>& rate : rates) threads.emplace_back([&work, &rate] { work(rate); });
  for (std::thread& thread : threads) thread.join();
  double sum = 0;
  for (const absl::StatusOr<double>& rate : rates) {
    if (!rate.ok()) return rate.status();
    sum += *rate;
  }
  return sum;
}

DecoderResult Try(const DecoderCandidate& candidate, const DecoderCandidate& first,
                  const DecoderTrial& trial, Clock& clock) {
  DecoderResult result;
  const absl::StatusOr<double> difference = WorstDifference(candidate, first, trial);
  const absl::StatusOr<double> rate =
      difference.ok() ? Measure(candidate, trial, clock) : difference.status();
  result.status = rate.status();
  if (rate.ok()) {
    result.mean_difference = *difference;
    result.photos_per_second = *rate;
  }
  return result;
}

}  // namespace

DecoderChoice ChooseDecoder(absl::Span<const DecoderCandidate> candidates,
                            const DecoderTrial& trial, Clock& clock) {
  DecoderChoice choice;
  for (const DecoderCandidate& candidate : candidates) {
    choice.results.push_back(Try(candidate, candidates[0], trial, clock));
  }
  const double processor = choice.results[0].photos_per_second;
  double best = processor * kDecoderAdvantage;
  for (size_t i = 1; i < candidates.size(); ++i) {
    const DecoderResult& result = choice.results[i];
    if (!result.status.ok()) {
      choice.why += absl::StrCat(candidates[i].name, " fails: ", result.status.message(), "; ");
    } else if (result.mean_difference > trial.max_mean_difference) {
      choice.why +=
          absl::StrFormat("%s gives other pixels: %.3f levels of 255 away, at most %g; ",
                          candidates[i].name, result.mean_difference, trial.max_mean_difference);
    } else if (result.photos_per_second >= best) {
      best = result.photos_per_second;
      choice.chosen = i;
    }
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    absl::StrAppendFormat(&choice.why, "%s%s %.0f photos/s", i == 0 ? "" : ", ", candidates[i].name,
                          choice.results[i].photos_per_second);
  }
  return choice;
}

absl::StatusOr<std::string> MakeTrialPhoto() {
  DLA_ASSIGN_OR_RETURN(const std::vector<SelfTestPhoto> photos, EmbeddedSelfTest());
  DLA_ASSIGN_OR_RETURN(const DecodedImage decoded, DecodeImage(photos[0].bytes, DecodeOptions()));
  const Image& tile = decoded.image;
  constexpr int kSide = 480;
  Image photo{.height = kSide, .width = kSide};
  photo.pixels.resize(photo.height * photo.row_bytes());
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const uint8_t* from =
          tile.pixels.data() + y % tile.height * tile.row_bytes() + size_t{3} * (x % tile.width);
      std::copy_n(from, 3, photo.pixels.data() + y * photo.row_bytes() + size_t{3} * x);
    }
  }
  return codec::WriteJpeg(photo, 90);
}

}  // namespace dla::server
