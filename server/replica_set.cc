#include "server/replica_set.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

// Until the system is asked again for a thread that it refused.
constexpr Duration kNoThreadPause = std::chrono::seconds(1);

}  // namespace

ReplicaSet::ReplicaSet(const Options& options)
    : model_(options.model),
      clock_(options.clock),
      health_(options.health),
      pauses_(options.clock),
      watchdog_(std::make_shared<Watchdog>(options.clock, [this] { return Look(); })),
      strays_(std::make_shared<Strays>(watchdog_)),
      context_{.name = options.name,
               .queue = options.queue,
               .metrics = options.metrics,
               .pace = options.pace,
               .statistics = options.statistics,
               .clock = options.clock,
               .health = options.health,
               .watchdog = watchdog_,
               .pauses = pauses_,
               .compute_threads = options.compute_threads,
               .batch_timeout = options.batch_timeout},
      slots_(options.replicas) {
  for (Slot& slot : slots_) Fill(slot);
  watchdog_->Start();
}

ReplicaSet::~ReplicaSet() {
  pauses_.Stop();
  watchdog_->Stop();
  for (Slot& slot : slots_) {
    if (slot.replica == nullptr) continue;
    strays_->Add();
    if (slot.replica->Abandon()) {
      slot.thread.detach();
    } else {
      strays_->Remove();
      slot.thread.join();
    }
  }
}

bool ReplicaSet::Fill(Slot& slot) {
  const ReplicaState state = slot.estate.state;
  slot.replica = std::make_shared<Replica>(model_, context_, std::exchange(slot.estate, {}));
  absl::Status refused;
  if (strays_->count() <= most_strays()) {
    try {
      slot.thread = std::thread([replica = slot.replica, strays = strays_]() mutable {
        if (replica->Work()) return;
        replica.reset();  // perhaps the model with it
        strays->Remove();
      });
      return true;
    } catch (const std::system_error& error) {
      refused = absl::UnavailableError(absl::StrCat("no thread for a replica: ", error.what()));
    }
  } else {
    refused = absl::UnavailableError(
        absl::StrCat(strays_->count(), " forward passes hang, more than ", most_strays()));
  }
  if (state != ReplicaState::kFailing) {
    spdlog::error("model={} a replica is not restarted: {}", context_.name,
                  std::string(refused.message()));
    health_.Move(state, ReplicaState::kFailing, refused.message());
  }
  slot.replica->GiveUp(refused);
  slot.replica = nullptr;
  slot.estate = {.rebuild = true, .halves = {}, .state = ReplicaState::kFailing};
  return false;
}

TimePoint ReplicaSet::Look() {
  const TimePoint now = clock_.Now();
  TimePoint next = TimePoint::max();
  for (Slot& slot : slots_) {
    if (slot.replica != nullptr && slot.replica->due() <= now) {
      strays_->Add();
      std::optional<Replica::Estate> estate = slot.replica->TakeAway(now);
      if (estate.has_value()) {
        slot.thread.detach();
        slot.replica = nullptr;
        slot.estate = *std::move(estate);
      } else {
        strays_->Remove();
      }
    }
    if (slot.replica == nullptr && !Fill(slot)) {
      if (strays_->count() <= most_strays()) next = std::min(next, now + kNoThreadPause);
    } else {
      next = std::min(next, slot.replica->due());
    }
  }
  return next;
}

}  // namespace dla::server
