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
      metrics_(metrics.ForModel(name_, options.queue.max_batch, model_->info().device)),
      places_({.capacity = options.queue_capacity,
               .owner = absl::StrCat("the queue of model \"", name_, "\""),
               .what = "photos",
               .flag = "--queue-capacity"},
              metrics_->queue),
      budgets_(options.budgets, absl::StrCat("model \"", name_, "\""), "--model-",
               metrics_->budgets),
      queue_(options.queue, *metrics_, clock),
      health_(name_, options.replicas, queue_, *metrics_,
              [this] {
                if (options_.on_health) options_.on_health(name_);
              }),
      replicas_({.model = model_,
                 .name = name_,
                 .replicas = options.replicas,
                 .compute_threads = options.compute_threads,
                 .batch_timeout = options.batch_timeout,
                 .queue = queue_,
                 .metrics = *metrics_,
                 .pace = pace_,
                 .statistics = statistics_,
                 .health = health_,
                 .clock = clock}) {
  metrics_->replicas->Increment(options_.replicas);
  metrics_->max_batch->Set(options_.queue.max_batch);
}

ServedModel::~ServedModel() {
  queue_.Close();
  metrics_->replicas->Decrement(options_.replicas);
}

Duration ServedModel::PredictedWait(const Caller& caller) const {
  const double seconds =
      static_cast<double>(queue_.Ahead(caller)) * pace_.seconds_per_photo() / options_.replicas;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace dla::server
