// Chooses how each model uses the cores: as the operator says, from the cache, or by measuring.
#pragma once

#include <optional>
#include <string>

#include "model/model.h"
#include "server/calibration.h"
#include "server/calibration_cache.h"
#include "server/clock.h"
#include "server/config.h"
#include "server/cpu_limits.h"

namespace dla::server {

class Calibrator {
 public:
  struct Options {
    bool measure = true;  // else what is open is filled in by rule
    CpuLimits limits;
    std::string cache_path;  // see CalibrationCache
    std::string program;     // version; results of another one are not used
    Duration budget = std::chrono::milliseconds(1500);  // for each model
  };

  // `clock` outlives the object.
  Calibrator(Options options, Clock& clock);

  // The share for a model that nobody uses yet; logs what was measured or read. Never fails: where
  // measuring does, the rule decides. A model whose device decides gets what that says. Runs for
  // about `budget` where it measures. Not thread-safe, for measurements would disturb each
  // other.
  Share Choose(const std::string& name, const ModelSettings& settings, const Model& model);

  // The share as far as it can be told without measuring: fixed, by rule where that decides, or
  // read from the cache.
  std::optional<Share> Recall(const std::string& name, const ModelSettings& settings,
                              const Model& model) const;

  // What stands where nothing is known.
  Share Rule(const ModelSettings& settings) const;

 private:
  CalibrationKey KeyOf(const ModelSettings& settings, const Model& model) const;
  absl::StatusOr<Calibration> Measure(const ModelSettings& settings, const Model& model);
  void Keep(const CalibrationKey& key, const Calibration& calibration, const std::string& name);

  const Options options_;
  const CalibrationCache cache_;
  Clock& clock_;
};

}  // namespace dla::server
