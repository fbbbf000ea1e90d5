#include "server/model_speed.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/mutex.h"

namespace dla::server {
namespace {

constexpr int kLeastPasses = 2;
constexpr double kUndisturbed = 0.8;

Duration SystemThreadCpuTime() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// Some texture, in case that a processor is quicker with zeros.
std::vector<uint8_t> MakePhoto(const InputSpec& spec) {
  std::vector<uint8_t> photo(static_cast<size_t>(spec.height) * spec.width * 3);
  uint32_t state = 1;
  for (uint8_t& byte : photo) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return photo;
}

// Lets threads go on together once `count` have come, or once it is opened.
class Gate {
 public:
  Gate(int count, Clock& clock) : clock_(clock), missing_(count) {}

  // The moment when the gate opened, the same for all.
  TimePoint ArriveAndWait() {
    MutexLock lock(mu_);
    if (missing_ > 0 && --missing_ == 0) OpenLocked();
    while (missing_ > 0) changed_.Wait(mu_);
    return opened_;
  }
  void Open() {
    MutexLock lock(mu_);
    if (missing_ > 0) OpenLocked();
  }

 private:
  void OpenLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    missing_ = 0;
    opened_ = clock_.Now();
    changed_.NotifyAll();
  }

  Clock& clock_;
  Mutex mu_;
  CondVar changed_;
  int missing_ ABSL_GUARDED_BY(mu_);
  TimePoint opened_ ABSL_GUARDED_BY(mu_);
};

// What one thread found; read once it has ended.
struct Lane {
  absl::Status status;
  int passes = 0;
  Duration wall{};
  Duration cpu{};
};

}  // namespace

absl::StatusOr<Speed> MeasureSpeed(const Model& model, const Share& share,
                                   const SpeedOptions& options, Clock& clock) {
  const std::vector<uint8_t> photo = MakePhoto(model.info().input);
  const std::vector<PhotoInput> photos(share.max_batch, photo.data());
  const auto cpu_time =
      options.thread_cpu_time ? options.thread_cpu_time : std::function(SystemThreadCpuTime);
  Gate warm(share.replicas, clock);
  std::vector<Lane> lanes(share.replicas);

  auto work = [&](Lane& lane) {
    BatchOutput output;
    model.PrepareThread(share.threads);
    const TimePoint created = clock.Now();
    do {
      lane.status = model.Run(photos, output);
    } while (lane.status.ok() && clock.Now() - created < options.warm_up);
    const TimePoint start = warm.ArriveAndWait();
    const Duration cpu_start = cpu_time();
    while (lane.status.ok() && (lane.passes < kLeastPasses || lane.wall < options.least)) {
      lane.status = model.Run(photos, output);
      ++lane.passes;
      lane.wall = clock.Now() - start;
    }
    lane.cpu = cpu_time() - cpu_start;
  };
  std::vector<std::thread> threads;
  absl::Status status;
  try {
    for (Lane& lane : lanes) threads.emplace_back(work, std::ref(lane));
  } catch (const std::system_error& error) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("cannot start ", share.replicas, " threads: ", error.what()));
    warm.Open();
  }
  for (std::thread& thread : threads) thread.join();

  Speed speed;
  double wall = 0, cpu = 0;
  for (const Lane& lane : lanes) {
    status.Update(lane.status);
    if (!status.ok()) return status;
    const double seconds = std::max(Seconds(lane.wall), 1e-9);
    speed.photos_per_second += lane.passes * share.max_batch / seconds;
    speed.batch_seconds += seconds / lane.passes / share.replicas;
    wall += seconds;
    cpu += Seconds(lane.cpu);
  }
  const double wanted = wall * std::min(1.0, options.cpus / share.replicas);
  speed.disturbed = share.threads == 1 && cpu < kUndisturbed * wanted;
  return speed;
}

}  // namespace dla::server
