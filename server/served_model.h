// A model with its queue and its replicas, as the server offers it under a name.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "model/model.h"
#include "server/admission.h"
#include "server/batch_queue.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/model_health.h"
#include "server/model_statistics.h"
#include "server/replica_set.h"

namespace dla::server {

class ServedModel {
 public:
  struct Options {
    int replicas = 1;         // batches that run at the same time
    int compute_threads = 1;  // of each replica
    BatchQueue::Options queue;
    // Photos that may wait, the ones still being decoded included. More means fewer refusals and
    // longer waits; each holds height x width x 3 bytes, or 4 times as many where the caller
    // normalised it.
    int queue_capacity = 512;
    BudgetLimits budgets;
    bool cache = true;  // its answers may be kept, where there is a response cache

    // After so long a forward pass counts as hanging: its photos are tried again elsewhere. 0:
    // never.
    Duration batch_timeout{};

    // Called, without a lock, after healthy() has changed; may be empty.
    std::function<void(const std::string& name)> on_health{};
  };

  // Starts the replicas. `metrics` and `clock` outlive the object.
  ServedModel(std::string name, std::string version, std::unique_ptr<const Model> model,
              const Options& options, Metrics& metrics, Clock& clock);

  // All photos are answered. Ends the replicas and waits for them, but not for a forward pass that
  // hangs: its thread keeps the network. Not to be run by one of their threads.
  ~ServedModel();

  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }
  // Differs between all objects of this process, those of one name and version too.
  uint64_t instance() const { return instance_; }
  const ModelInfo& info() const { return model_->info(); }
  // Where its photos should lie.
  std::shared_ptr<PixelMemory> photo_memory() const { return model_->photo_memory(); }
  const Options& options() const { return options_; }
  ModelMetrics& metrics() const { return *metrics_; }
  ModelStatistics& statistics() { return statistics_; }
  BatchQueue& queue() { return queue_; }
  // A place is taken before a photo is decoded, so a photo that cannot be queued costs nothing.
  Budget& places() { return places_; }
  Budgets& budgets() { return budgets_; }
  const ModelHealth& health() const { return health_; }

  // How long a decoded photo that comes now will wait, judged by how fast the last batches were.
  // Rather too short than too long; 0 before the first batch.
  Duration PredictedWait(const Caller& caller) const;

 private:
  const std::string name_;
  const std::string version_;
  const uint64_t instance_;
  const Options options_;
  const std::shared_ptr<const Model> model_;
  const std::unique_ptr<ModelMetrics> metrics_;
  Budget places_;
  Budgets budgets_;
  Pace pace_;
  ModelStatistics statistics_;
  BatchQueue queue_;
  ModelHealth health_;
  ReplicaSet replicas_;
};

}  // namespace dla::server
