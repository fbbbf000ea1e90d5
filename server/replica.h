// A thread that takes batches from a queue, runs the model and answers.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "model/model.h"
#include "server/batch_queue.h"
#include "server/clock.h"

namespace dla::server {

class ModelMetrics;
class ModelStatistics;

// How fast the replicas of one model have been lately. Thread-safe.
class Pace {
 public:
  void Record(Duration batch, int photos);

  // Seconds from one photo to the next of one busy replica; 0 before the first batch.
  double seconds_per_photo() const { return seconds_per_photo_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> seconds_per_photo_ = 0;
};

// Everything that the replicas of one model share. All of it outlives them.
struct ReplicaContext {
  const Model& model;
  BatchQueue& queue;
  ModelMetrics& metrics;
  Pace& pace;
  ModelStatistics& statistics;
  Clock& clock;
  int compute_threads;  // of each replica
};

class Replica {
 public:
  // Starts the thread.
  explicit Replica(const ReplicaContext& context);

  // Waits for the thread to end, which it does once the queue is closed and empty.
  ~Replica();

  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

 private:
  void Work();
  void RunBatch(std::vector<BatchQueue::Item> batch);

  const ReplicaContext context_;
  std::vector<PhotoInput> photos_;
  BatchOutput output_;
  std::thread thread_;
};

}  // namespace dla::server
