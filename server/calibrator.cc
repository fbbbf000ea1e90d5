#include "server/calibrator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/log_value.h"
#include "server/model_speed.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

Share FixedShare(const ModelSettings& settings) {
  return {
      .replicas = settings.replicas, .threads = settings.threads, .max_batch = settings.max_batch};
}

// "2x1/4:310 1x2/4:240": replicas x threads / photos of a batch, and photos per second.
std::string ToString(const std::vector<Measurement>& measured) {
  return absl::StrJoin(measured, " ", [](std::string* out, const Measurement& m) {
    absl::StrAppend(out, m.share.replicas, "x", m.share.threads, "/", m.share.max_batch, ":",
                    static_cast<int64_t>(m.speed.photos_per_second));
  });
}

}  // namespace

Calibrator::Calibrator(Options options, Clock& clock)
    : options_(std::move(options)), cache_(options_.cache_path), clock_(clock) {}

Share Calibrator::Rule(const ModelSettings& settings) const {
  return ShareByRule(FixedShare(settings), options_.limits.cores);
}

std::optional<Share> Calibrator::Recall(const std::string& name, const ModelSettings& settings,
                                        const Model& model) const {
  const ModelInfo& info = model.info();
  if (info.lanes > 0) {
    return Share{.replicas = info.lanes, .threads = 1, .max_batch = info.max_batch};
  }
  if (IsFixed(FixedShare(settings)) || !options_.measure) return Rule(settings);
  const CalibrationCache::Lookup lookup = cache_.Find(KeyOf(settings, model));
  if (!lookup.warning.empty()) spdlog::warn(lookup.warning);
  if (lookup.record.has_value()) {
    const CalibrationRecord& record = *lookup.record;
    spdlog::info(
        "calibrated model={} optimize={} replicas={} threads={} max_batch={} "
        "photos_per_second={:.0f} measured={} read={}",
        LogValue(name), settings.optimize, record.share.replicas, record.share.threads,
        record.share.max_batch, record.photos_per_second, LogValue(record.measured),
        LogValue(cache_.path()));
    return record.share;
  }
  return std::nullopt;
}

Share Calibrator::Choose(const std::string& name, const ModelSettings& settings,
                         const Model& model) {
  if (const std::optional<Share> known = Recall(name, settings, model)) return *known;
  const absl::StatusOr<Calibration> found = Measure(settings, model);
  if (!found.ok()) {
    const Share rule = Rule(settings);
    spdlog::warn("model={} could not be calibrated and gets {}: {}", LogValue(name),
                 dla::server::ToString(rule), found.status().ToString());
    return rule;
  }
  spdlog::info(
      "calibrated model={} optimize={} replicas={} threads={} max_batch={} "
      "photos_per_second={:.0f} seconds={:.2f} tried=\"{}\"",
      LogValue(name), settings.optimize, found->share.replicas, found->share.threads,
      found->share.max_batch, found->speed.photos_per_second, Seconds(found->took),
      ToString(found->measured));
  Keep(KeyOf(settings, model), *found, name);
  return found->share;
}

absl::StatusOr<Calibration> Calibrator::Measure(const ModelSettings& settings, const Model& model) {
  const SpeedOptions speed = {.cpus = options_.limits.cpus};
  return Calibrate(
      {.goal = settings.optimize == "latency" ? Goal::kLatency : Goal::kThroughput,
       .fixed = FixedShare(settings),
       .cores = options_.limits.cores,
       .budget = options_.budget},
      [&](const Share& share) { return MeasureSpeed(model, share, speed, clock_); }, clock_);
}

void Calibrator::Keep(const CalibrationKey& key, const Calibration& calibration,
                      const std::string& name) {
  if (cache_.path().empty()) return;
  if (calibration.speed.disturbed) {
    spdlog::warn(
        "the calibration of model={} is not kept: other programs were using the processors",
        LogValue(name));
    return;
  }
  const absl::Status kept =
      cache_.Store({.key = key,
                    .share = calibration.share,
                    .photos_per_second = calibration.speed.photos_per_second,
                    .measured = absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone())});
  if (kept.ok()) {
    spdlog::info("calibration of model={} kept={}", LogValue(name), LogValue(cache_.path()));
  } else {
    spdlog::warn(
        "the calibration of model={} is not kept and will be done again at the next start: {}; "
        "--calibration-cache names another file",
        LogValue(name), kept.ToString());
  }
}

CalibrationKey Calibrator::KeyOf(const ModelSettings& settings, const Model& model) const {
  const ModelInfo& info = model.info();
  return {.processor = ProcessorName(),
          .cpus = options_.limits.cpus,
          .architecture = info.architecture,
          .precision = info.precision,
          .height = info.input.height,
          .width = info.input.width,
          .classes = info.num_classes,
          .program = options_.program,
          .optimize = settings.optimize,
          .fixed = FixedShare(settings)};
}

}  // namespace dla::server
