// Takes batches from a queue, runs the model, answers, and recovers from what goes wrong.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"
#include "server/batch_queue.h"
#include "server/clock.h"
#include "server/forward_pass.h"
#include "server/model_health.h"
#include "server/strays.h"
#include "server/watchdog.h"

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

// Pauses that a shutdown cuts short. Thread-safe.
class Pauses {
 public:
  explicit Pauses(Clock& clock) : clock_(clock) {}

  // False if cut short.
  bool Wait(Duration pause);

  // Ends all pauses, those to come too.
  void Stop();

 private:
  Clock& clock_;
  Mutex mu_;
  CondVar stop_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

// Everything that the replicas of one model share. All of it outlives them, but not a pass that was
// taken away from one.
struct ReplicaContext {
  const std::string& name;
  BatchQueue& queue;
  ModelMetrics& metrics;
  Pace& pace;
  ModelStatistics& statistics;
  Clock& clock;
  ModelHealth& health;
  std::shared_ptr<Watchdog> watchdog;  // touched while a pass may be taken away
  Pauses& pauses;
  int compute_threads;     // of each replica
  Duration batch_timeout;  // for one pass; 0: none
};

// The work of one thread. A batch that fails is tried once more in halves, by this replica or,
// where it hung, by the one that takes its place. A replica that threw, or failed with the halves
// too, is rebuilt: new buffers, then a trial on a blank photo, repeated with growing pauses until
// it works.
class Replica {
 public:
  // What one replica leaves to the next: the beginning of a new one.
  struct Estate {
    bool rebuild = false;                              // begin with a trial
    std::deque<std::vector<BatchQueue::Item>> halves;  // to be tried again
    bool rescued = false;                              // another half of that batch succeeded
    int setbacks = 0;  // rebuilds that did not help; pauses grow with them
    ReplicaState state = ReplicaState::kWorking;
  };

  Replica(std::shared_ptr<const Model> model, const ReplicaContext& context, Estate estate);

  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // Returns once the queue is closed and empty, or once a pass returns that was taken away: false.
  // Then it has touched nothing of `context` since.
  bool Work();

  // When the pass that runs is overdue; TimePoint::max() if none is or can be.
  TimePoint due() const { return claim_.due(); }

  // By another thread: takes away the pass that runs, if it is due by `latest`, with the photos
  // that depend on it. Photos that may not be tried again are answered.
  std::optional<Estate> TakeAway(TimePoint latest);

  // At the end: the thread need not be waited for if this is true. Work will return false.
  bool Abandon();

  // Instead of Work: answers the photos of the estate.
  void GiveUp(const absl::Status& why) { RefuseHalves(why); }

 private:
  using Photos = std::vector<BatchQueue::Item>;
  enum class Next { kGoOn, kStop, kTaken };

  Next Step();
  bool Run(Photos photos, bool second);
  Next Rebuild();
  bool Begin(TimePoint start);
  void Fail(Photos photos, bool second, const PassResult& result);
  void FailHalf(Photos photos, const absl::Status& status);
  void RefuseHalves(const absl::Status& why);
  Photos StillWaitedFor(Photos photos);
  void AnswerPhotos(Photos photos, TimePoint start, Duration inference);
  void Move(ReplicaState state, absl::string_view why = "");

  const std::shared_ptr<const Model> model_;
  const ReplicaContext context_;
  ForwardPass pass_;

  // The thread's between two passes. While a pass runs nobody touches them but who takes it away;
  // the pass itself reads what the photos' pixels point to.
  bool broken_;
  std::deque<Photos> halves_;
  bool rescued_;
  int setbacks_;
  ReplicaState state_;
  Photos running_;
  bool second_ = false;  // it is a second attempt
  bool trial_ = false;   // it has no photos

  WorkClaim claim_;
};

}  // namespace dla::server
