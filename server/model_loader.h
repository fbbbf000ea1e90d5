// From a folder to a model that is ready to serve.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/model.h"
#include "server/calibrator.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/model_repository.h"
#include "server/reaper.h"
#include "server/served_model.h"

namespace dla::server {

// Loads one model; the model that comes with the program if the folder's path is empty.
using LoadFunction =
    std::function<absl::StatusOr<std::unique_ptr<const Model>>(const ModelFolder& folder)>;

// Compares a model that was just loaded with what its folder expects of it; may be empty.
using SelfTestFunction = std::function<absl::Status(const ModelFolder& folder, const Model& model)>;

// Not thread-safe: measurements would disturb each other.
class ModelLoader {
 public:
  // What it needs, all of it outliving the object.
  struct Context {
    Metrics& metrics;
    Reaper& reaper;
    Clock& clock;
    std::function<void(const std::string& name)> on_health = nullptr;  // see ServedModel::Options
  };

  ModelLoader(LoadFunction load, SelfTestFunction self_test, Calibrator calibrator,
              const Context& context);

  // `serving`: other models are in use, so nothing may be measured. What is not in the calibration
  // cache is then as the model of that name had it before, else by rule. The message of an error
  // names the model.
  absl::StatusOr<std::shared_ptr<ServedModel>> Load(const ModelFolder& folder, bool serving);

  // Tells Prometheus how the last load of all that model `name` is to serve ended; OK also for a
  // model that is not to be served any more. Thread-safe.
  void Report(const std::string& name, const absl::Status& outcome);

 private:
  Share Choose(const ModelFolder& folder, const Model& model, bool serving);

  const LoadFunction load_;
  const SelfTestFunction self_test_;
  Calibrator calibrator_;
  const Context context_;
  std::map<std::string, Share> shares_;  // by the model's name
};

}  // namespace dla::server
