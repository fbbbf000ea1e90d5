#include "server/model_health.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace dla::server {

ModelHealth::ModelHealth(std::string model, int replicas, BatchQueue& queue, ModelMetrics& metrics,
                         std::function<void()> on_change)
    : model_(std::move(model)),
      replicas_(replicas),
      queue_(queue),
      metrics_(metrics),
      on_change_(std::move(on_change)) {
  replicas_in_[static_cast<int>(ReplicaState::kWorking)] = replicas;
  metrics_.healthy->Set(1);
}

std::string ModelHealth::reason() const {
  MutexLock lock(mu_);
  return healthy_ ? "" : why_;
}

absl::Status ModelHealth::Refusal() const {
  MutexLock lock(mu_);
  return absl::UnavailableError(absl::StrCat("no replica of model \"", model_, "\" works (", why_,
                                             "); they are being restarted, try again later"));
}

void ModelHealth::Failed(const absl::Status& why) {
  News news;
  {
    MutexLock lock(mu_);
    ++failures_;
    why_ = std::string(why.message());
    news = Judge();
  }
  Tell(std::move(news));
}

void ModelHealth::ForgetFailures() {
  News news;
  {
    MutexLock lock(mu_);
    failures_ = 0;
    news = Judge();
  }
  Tell(std::move(news));
}

void ModelHealth::Move(ReplicaState from, ReplicaState to, absl::string_view why) {
  if (from == to && why.empty()) return;
  News news;
  {
    MutexLock lock(mu_);
    --replicas_in_[static_cast<int>(from)];
    ++replicas_in_[static_cast<int>(to)];
    if (!why.empty()) why_ = std::string(why);
    // A blank photo says little about others, but it is all there is when no others come. Not where
    // the replica began to recover before the last failure.
    if (from == ReplicaState::kFailing && to == ReplicaState::kWorking && !healthy_) failures_ = 0;
    news = Judge();
  }
  Tell(std::move(news));
}

ModelHealth::News ModelHealth::Judge() {
  const bool none_works = replicas_in_[static_cast<int>(ReplicaState::kFailing)] == replicas_;
  const bool healthy = !none_works && failures_ < kMostFailures;
  News news = {.turned = healthy != healthy_, .why = why_, .refused = {}};
  healthy_ = healthy;
  metrics_.healthy->Set(healthy ? 1 : 0);
  if (none_works != refusing_) {
    refusing_ = none_works;
    news.refused = queue_.SetRefusing(none_works);
  }
  return news;
}

void ModelHealth::Tell(News news) {
  if (news.turned) {
    if (healthy()) {
      spdlog::info("model={} is healthy again", model_);
    } else {
      spdlog::error("model={} is not healthy: {}", model_, news.why);
    }
    if (on_change_) on_change_();
  }
  if (news.refused.empty()) return;
  const absl::Status refusal = Refusal();
  for (BatchQueue::Item& item : news.refused) std::move(item.context.done)(refusal);
}

}  // namespace dla::server
