// Which replicas, threads and batches suit a model on this machine: chosen by measuring a few.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/clock.h"

namespace dla::server {

enum class Goal {
  kThroughput,  // most photos per second while all replicas are busy
  kLatency,     // the shortest forward pass of one photo on an idle machine
};

// How a model uses the cores. Where values may be open, 0 says so.
struct Share {
  int replicas = 0;   // batches that run at the same time
  int threads = 0;    // compute threads of each replica
  int max_batch = 0;  // photos of one forward pass, at most
  bool operator==(const Share&) const = default;
};

// What one measurement found.
struct Speed {
  double photos_per_second = 0;  // of all replicas together
  double batch_seconds = 0;      // one forward pass
  bool disturbed = false;        // the cores were not free: other programs ran on them
};

// Runs the model as `share`, in which nothing is open, says. Errors are the model's.
using MeasureFunction = absl::FunctionRef<absl::StatusOr<Speed>(const Share& share)>;

struct CalibrationOptions {
  Goal goal = Goal::kThroughput;
  Share fixed;    // what the operator decided; only what is open is chosen
  int cores = 1;  // replicas x threads stays within these unless fixed values exceed them

  // No measurement starts that would, as far as can be told, end later than this.
  Duration budget = std::chrono::milliseconds(1500);
};

struct Measurement {
  Share share;
  Speed speed;  // the best of several
};

struct Calibration {
  Share share;  // nothing open
  Speed speed;  // as measured for it; where there was no time to, for one replica and photo
  std::vector<Measurement> measured;
  Duration took{};
};

// Measures and chooses. A measurement is disturbed by other programs one way only, so of several
// the fastest counts; what differs by less than these counts as equal:
//   threads, replicas: 5 %, and the fewest threads win. Threads that share a forward pass wait for
//     each other actively, which an idle machine hides and a busy one does not.
//   batch: 3 % for throughput, 10 % for latency, and the smallest wins, since photos of a batch
//     wait for each other. What the server does for each batch counts with 100 us.
// For latency, replicas are as many as then fit. `clock` is what `measure` takes its time on. Fails
// only if `measure` does.
absl::StatusOr<Calibration> Calibrate(const CalibrationOptions& options, MeasureFunction measure,
                                      Clock& clock);

// What stands where nothing is measured: fixed values stay, what is open uses the cores once, with
// one replica of one thread for each where that is open, too; batches of 8.
Share ShareByRule(const Share& fixed, int cores);

// "2 x 1, batch 4": replicas x threads.
std::string ToString(const Share& share);

// True where nothing is left to choose.
inline bool IsFixed(const Share& share) {
  return share.replicas > 0 && share.threads > 0 && share.max_batch > 0;
}

}  // namespace dla::server
