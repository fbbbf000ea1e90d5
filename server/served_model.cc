#include "server/served_model.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::server {
namespace {

uint64_t NextInstance() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

}  // namespace

ServedModel::ServedModel(std::string name, std::string version, std::unique_ptr<const Model> model,
                         const Options& options, Metrics& metrics, Clock& clock)
    : name_(std::move(name)),
      version_(std::move(version)),
      instance_(NextInstance()),
      options_(options),
      model_(std::move(model)),
      metrics_(metrics.ForModel(name_, options.queue.max_batch)),
      places_({.capacity = options.queue_capacity,
               .owner = absl::StrCat("the queue of model \"", name_, "\""),
               .what = "photos",
               .flag = "--queue-capacity"},
              metrics_->queue),
      budgets_(options.budgets, absl::StrCat("model \"", name_, "\""), "--model-",
               metrics_->budgets),
      queue_(options.queue, *metrics_, clock) {
  const ReplicaContext context = {.model = *model_,
                                  .queue = queue_,
                                  .metrics = *metrics_,
                                  .pace = pace_,
                                  .statistics = statistics_,
                                  .clock = clock,
                                  .compute_threads = options_.compute_threads};
  for (int i = 0; i < options_.replicas; ++i) {
    replicas_.push_back(std::make_unique<Replica>(context));
  }
  metrics_->replicas->Increment(options_.replicas);
}

ServedModel::~ServedModel() {
  queue_.Close();
  replicas_.clear();
  metrics_->replicas->Decrement(options_.replicas);
}

Duration ServedModel::PredictedWait(const Caller& caller) const {
  const double seconds =
      static_cast<double>(queue_.Ahead(caller)) * pace_.seconds_per_photo() / options_.replicas;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace dla::server
