// A model with its queue and its replicas, as the server offers it under a name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "server/batch_queue.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/model_statistics.h"
#include "server/replica.h"

namespace dla::server {

class ServedModel {
 public:
  struct Options {
    int replicas = 1;         // batches that run at the same time
    int compute_threads = 1;  // of each replica
    BatchQueue::Options queue;
    bool cache = true;  // its answers may be kept, where there is a response cache
  };

  // Starts the replicas. `metrics` and `clock` outlive the object.
  ServedModel(std::string name, std::string version, std::unique_ptr<const Model> model,
              const Options& options, Metrics& metrics, Clock& clock);

  // Answers what still waits, then ends the replicas. Not to be run by one of their threads.
  ~ServedModel();

  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }
  // Differs between all objects of this process, those of one name and version too.
  uint64_t instance() const { return instance_; }
  const ModelInfo& info() const { return model_->info(); }
  const Options& options() const { return options_; }
  ModelMetrics& metrics() const { return *metrics_; }
  ModelStatistics& statistics() { return statistics_; }
  BatchQueue& queue() { return queue_; }

  // How long a photo that arrives now will wait, judged by how fast the last batches were.
  Duration PredictedWait() const;

 private:
  const std::string name_;
  const std::string version_;
  const uint64_t instance_;
  const Options options_;
  const std::unique_ptr<const Model> model_;
  const std::unique_ptr<ModelMetrics> metrics_;
  Pace pace_;
  ModelStatistics statistics_;
  BatchQueue queue_;
  std::vector<std::unique_ptr<Replica>> replicas_;
};

}  // namespace dla::server
