#include "server/decoder_setup.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/device.h"
#include "model/status_macros.h"
#include "server/card_decode.h"
#include "server/decoder_choice.h"
#include "server/decoders.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

// How far a card's pixels may be from libjpeg's, mean of a photo, of 255. Who lets photos be
// decoded at a reduced scale has agreed to about half a level; who does not wants timm's pixels.
double MaxMeanDifference(const ServerConfig& config) {
  return config.reduced_scale_decode ? 0.5 : 0.05;
}

using Decoders = std::vector<gpu::NamedJpegDecoder>;

// Those of the cards that --device leaves to the models.
absl::StatusOr<Decoders> MakeDecoders(const DeviceChoice& choice, int threads,
                                      gpu::Runtime& runtime) {
  const int cards = static_cast<int>(runtime.devices().size());
  std::vector<int> devices = choice.indices;
  if (devices.empty()) {
    for (int i = 0; i < cards; ++i) devices.push_back(i);
  }
  for (const int device : devices) {
    if (device >= cards) return absl::NotFoundError(absl::StrCat("there is no cuda:", device));
  }
  return runtime.MakeJpegDecoders(devices, threads);
}

// The fastest of the cards' decoders, whatever the processor does; 0: none works.
size_t FastestOnCard(const std::vector<DecoderResult>& results) {
  size_t best = 0;
  for (size_t i = 1; i < results.size(); ++i) {
    if (!results[i].status.ok()) continue;
    if (best == 0 || results[i].photos_per_second > results[best].photos_per_second) best = i;
  }
  return best;
}

}  // namespace

absl::StatusOr<DecodeFunction> SetUpDecoder(
    const ServerConfig& config, int threads, const std::function<void()>& prepare_thread,
    const std::function<absl::StatusOr<gpu::Runtime*>()>& find_runtime, Clock& clock) {
  const DecodeFunction processor = RealDecode(config);
  const bool forced = config.decoder == "nvjpeg";
  if (config.decoder == "cpu") return processor;
  DLA_ASSIGN_OR_RETURN(const DeviceChoice device, ParseDevice(config.defaults.device));
  const bool no_card = device.kind == DeviceChoice::Kind::kCpu;
  if (!forced && (no_card || !config.calibrate)) return processor;

  const auto refuse = [&](const absl::Status& why) -> absl::StatusOr<DecodeFunction> {
    if (forced) {
      return absl::FailedPreconditionError(absl::StrCat("--decoder nvjpeg: ", why.message()));
    }
    spdlog::info("decoder=cpu why={}", LogValue(why.message()));
    return processor;
  };
  const absl::StatusOr<gpu::Runtime*> runtime = find_runtime();
  if (!runtime.ok()) return forced ? refuse(runtime.status()) : processor;
  absl::StatusOr<Decoders> decoders = MakeDecoders(device, threads, **runtime);
  if (!decoders.ok()) return refuse(decoders.status());
  absl::StatusOr<std::string> photo = MakeTrialPhoto();
  if (!photo.ok()) return refuse(photo.status());

  const LoadImageOptions options = LoadOptionsOf(config);
  std::vector<std::shared_ptr<gpu::JpegDecoder>> cards;
  std::vector<DecoderCandidate> candidates = {{"cpu", processor}};
  for (gpu::NamedJpegDecoder& decoder : *decoders) {
    cards.push_back(std::move(decoder.decoder));
    candidates.push_back({decoder.name, DecodeOnCard(cards.back(), options)});
  }
  DecoderTrial trial;
  trial.photos = {*std::move(photo)};
  trial.threads = threads;
  trial.prepare_thread = prepare_thread;
  trial.max_mean_difference = MaxMeanDifference(config);
  DecoderChoice choice = ChooseDecoder(candidates, trial, clock);
  if (forced) {
    choice.chosen = FastestOnCard(choice.results);
    if (choice.chosen == 0) return refuse(absl::InternalError(choice.why));
    choice.why = absl::StrCat("--decoder nvjpeg; ", choice.why);
  }
  const DecoderResult& result = choice.results[choice.chosen];
  spdlog::info("decoder={} why={} mean_difference={:.3f}", LogValue(candidates[choice.chosen].name),
               LogValue(choice.why), result.mean_difference);
  if (choice.chosen == 0) return processor;
  if (result.mean_difference > trial.max_mean_difference) {
    spdlog::warn("decoder={} gives pixels that are {:.3f} levels of 255 away from timm's",
                 LogValue(candidates[choice.chosen].name), result.mean_difference);
  }
  return DecodeWithFallback(candidates[choice.chosen].name, cards[choice.chosen - 1], options,
                            processor);
}

}  // namespace dla::server
