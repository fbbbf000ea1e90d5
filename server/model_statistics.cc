#include "server/model_statistics.h"

#include <chrono>

namespace dla::server {

void ModelStatistics::AddRequest(bool ok, Duration took) {
  MutexLock lock(mu_);
  (ok ? success_ : fail_).Add(1, took);
}

void ModelStatistics::AddBatch(const BatchTimes& times) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  MutexLock lock(mu_);
  last_inference_ms_ = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  photos_ += times.photos;
  ++batches_;
  queue_.Add(times.photos, times.queue);
  input_.Add(times.photos, times.decode);
  infer_.Add(times.photos, times.inference * times.photos);  // each photo waited for all of it
  output_.Add(times.photos, times.output);
  BatchTotals& batch = by_size_[times.photos];
  batch.input.Add(1, times.decode);
  batch.infer.Add(1, times.inference);
  batch.output.Add(1, times.output);
}

void ModelStatistics::AddCacheHit(Duration took) {
  MutexLock lock(mu_);
  cache_hit_.Add(1, took);
}

void ModelStatistics::AddCacheMiss(Duration took) {
  MutexLock lock(mu_);
  cache_miss_.Add(1, took);
}

void ModelStatistics::FillTotal(const Total& total, inference::StatisticDuration& message) {
  message.set_count(total.count);
  message.set_ns(std::chrono::duration_cast<std::chrono::nanoseconds>(total.time).count());
}

void ModelStatistics::Fill(inference::ModelStatistics& message) const {
  MutexLock lock(mu_);
  message.set_last_inference(last_inference_ms_);
  message.set_inference_count(photos_);
  message.set_execution_count(batches_);
  inference::InferStatistics& stats = *message.mutable_inference_stats();
  FillTotal(success_, *stats.mutable_success());
  FillTotal(fail_, *stats.mutable_fail());
  FillTotal(queue_, *stats.mutable_queue());
  FillTotal(input_, *stats.mutable_compute_input());
  FillTotal(infer_, *stats.mutable_compute_infer());
  FillTotal(output_, *stats.mutable_compute_output());
  FillTotal(cache_hit_, *stats.mutable_cache_hit());
  FillTotal(cache_miss_, *stats.mutable_cache_miss());
  for (const auto& [size, totals] : by_size_) {
    inference::InferBatchStatistics& batch = *message.add_batch_stats();
    batch.set_batch_size(size);
    FillTotal(totals.input, *batch.mutable_compute_input());
    FillTotal(totals.infer, *batch.mutable_compute_infer());
    FillTotal(totals.output, *batch.mutable_compute_output());
  }
}

}  // namespace dla::server
