// A model that fails on purpose, as devices and drivers do, around one that works.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/model.h"
#include "server/mutex.h"

namespace dla::testing {

enum class Fault {
  kNone,
  kError,        // INTERNAL
  kThrow,        // std::runtime_error, although Model::Run promises a status
  kShort,        // OK with half of the results
  kOutOfMemory,  // RESOURCE_EXHAUSTED; batches of one photo are never hit, as memory suffices then
  kHang,         // answers rightly, but late
};

// When which fault happens, and how often it has: one for all models of a process. Thread-safe.
class FaultSchedule {
 public:
  static constexpr int kFaults = 6;

  // "seed=7,error=0.01,throw=0.01,short=0.01,oom=0.02,hang=0.001,hang-ms=2000": the probability of
  // each fault for one forward pass; what is not named is 0. INVALID_ARGUMENT names what is wrong.
  static absl::StatusOr<std::unique_ptr<FaultSchedule>> Parse(absl::string_view text);

  Fault Next(int photos);

  std::chrono::milliseconds hang() const { return hang_; }

  // "error=3/12 throw=0/0 ...": forward passes that were hit, and photos in them.
  std::string Summary() const;

 private:
  FaultSchedule() = default;

  std::array<double, kFaults> rates_{};
  std::chrono::milliseconds hang_{2000};

  struct Count {
    int64_t passes = 0;
    int64_t photos = 0;
  };

  mutable server::Mutex mu_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mu_);
  std::array<Count, kFaults> counts_ ABSL_GUARDED_BY(mu_);
};

class FaultyModel : public Model {
 public:
  // `schedule` outlives the object.
  FaultyModel(std::unique_ptr<const Model> model, FaultSchedule& schedule)
      : model_(std::move(model)), schedule_(schedule) {}

  const Model& inner() const { return *model_; }
  const ModelInfo& info() const override { return model_->info(); }
  void PrepareThread(int compute_threads) const override { model_->PrepareThread(compute_threads); }
  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override;

 private:
  const std::unique_ptr<const Model> model_;
  FaultSchedule& schedule_;
};

}  // namespace dla::testing
