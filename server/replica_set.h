// The replicas of one model, their threads and the watchdog that replaces those that hang.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "server/replica.h"
#include "server/strays.h"
#include "server/watchdog.h"

namespace dla::server {

class ReplicaSet {
 public:
  // What is named by reference outlives the object.
  struct Options {
    std::shared_ptr<const Model> model;
    const std::string& name;
    int replicas;
    int compute_threads;
    Duration batch_timeout;
    BatchQueue& queue;
    ModelMetrics& metrics;
    Pace& pace;
    ModelStatistics& statistics;
    ModelHealth& health;
    Clock& clock;
  };

  // Starts the threads.
  explicit ReplicaSet(const Options& options);

  // The queue is closed and all photos are answered. Waits for the threads, except those whose pass
  // hangs.
  ~ReplicaSet();

  ReplicaSet(const ReplicaSet&) = delete;
  ReplicaSet& operator=(const ReplicaSet&) = delete;

 private:
  // The place of one replica. Without a thread while too many others hang.
  struct Slot {
    std::shared_ptr<Replica> replica;
    std::thread thread;
    Replica::Estate estate;  // of the next replica, where there is none
  };

  TimePoint Look();
  // False if there can be no thread now.
  bool Fill(Slot& slot);
  int most_strays() const { return 2 * static_cast<int>(slots_.size()); }

  const std::shared_ptr<const Model> model_;
  Clock& clock_;
  ModelHealth& health_;
  Pauses pauses_;
  const std::shared_ptr<Watchdog> watchdog_;  // shared with the threads, strays too
  const std::shared_ptr<Strays> strays_;      // shared with their threads
  const ReplicaContext context_;
  // The constructor's, then the watchdog's, then the destructor's.
  std::vector<Slot> slots_;
};

}  // namespace dla::server
