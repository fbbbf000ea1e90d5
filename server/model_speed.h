// Measures how fast a model is with so many replicas, threads and photos of a batch.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "model/model.h"
#include "server/calibration.h"
#include "server/clock.h"

namespace dla::server {

struct SpeedOptions {
  Duration least = std::chrono::milliseconds(60);  // of measuring, warming up not counted
  // Before: one pass at least. It takes the system some milliseconds to move new threads apart,
  // without which threads that share a pass would look slower than one alone.
  Duration warm_up = std::chrono::milliseconds(25);
  double cpus = 1;  // processors' worth of time that this process can get, see CpuLimits
  // CPU time of the calling thread so far; by default the system's.
  std::function<Duration()> thread_cpu_time = nullptr;
};

// Runs share.replicas threads that, once warm, classify batches of share.max_batch
// photos at the same time, as replicas do, at least two each. In `share` nothing is open. Speed is
// `disturbed` if the threads got less than 0.8 of the processors' time that they wanted, which can
// be told for one compute thread only. Errors are the model's; std::system_error never leaves: too
// many threads are RESOURCE_EXHAUSTED.
absl::StatusOr<Speed> MeasureSpeed(const Model& model, const Share& share,
                                   const SpeedOptions& options, Clock& clock);

}  // namespace dla::server
