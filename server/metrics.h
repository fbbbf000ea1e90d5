// Everything that the server tells Prometheus. All names, units and labels are in metrics.cc.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "model/model.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace dla::server {

// The calls that are counted apart.
enum class Method {
  kClassify,
  kClassifyBatch,
  kClassifyStream,
  kModelInfer,
  kModelStreamInfer,
  kHttpClassify,
  kHttpInfer
};

// Why a forward pass came to nothing.
enum class BatchFailure { kError, kException, kOutOfMemory, kTimeout };

// What is counted of requests, also of those for models that do not exist. Handles are resolved
// once, so that a request looks nothing up. Thread-safe, as prometheus-cpp's own types are.
class RequestMetrics {
 public:
  // Counts one request (of a stream: one message) as answered with `code`.
  void CountRequest(Method method, absl::StatusCode code);

  prometheus::Histogram* request_seconds;

 private:
  friend class Metrics;
  static constexpr int kMethods = 7;
  static constexpr int kCodes = 17;  // gRPC's status codes, 0 to 16
  std::array<std::array<prometheus::Counter*, kCodes>, kMethods> requests_;
};

// Of one resource: how much is in use, of how much.
struct BudgetGauges {
  prometheus::Gauge* used;
  prometheus::Gauge* capacity;
};
struct BudgetMetrics {
  BudgetGauges requests;
  BudgetGauges bytes;
  BudgetGauges pixels;
};

struct ConnectionMetrics {
  BudgetGauges open;
  prometheus::Counter* refused;
};

// What was not there for a photo or a request that was refused at the door.
enum class Refusal { kQueue, kRequests, kBytes, kPixels, kDeadline };

// The handles of one model's time series. Thread-safe.
class ModelMetrics : public RequestMetrics {
 public:
  // Counts a photo that was dropped before inference: CANCELLED or DEADLINE_EXCEEDED.
  void CountAbandoned(const absl::Status& status);
  void CountRefused(Refusal reason);
  void CountBatchFailure(BatchFailure reason) {
    batch_failures_[static_cast<int>(reason)]->Increment();
  }

  // Of a batch, as its device measured them.
  void ObserveStages(const StageTimes& times);

  prometheus::Histogram* decode_seconds;
  prometheus::Histogram* queue_seconds;
  prometheus::Histogram* inference_seconds;
  prometheus::Histogram* batch_size;
  prometheus::Histogram* top1_probability;
  // Sums over all models of the name: versions, and one that replaces another.
  BudgetGauges queue;
  BudgetMetrics budgets;
  prometheus::Gauge* in_flight;
  prometheus::Gauge* replicas;
  prometheus::Gauge* replicas_busy;
  // Of the model of the name that told last.
  prometheus::Gauge* max_batch;
  prometheus::Gauge* healthy;
  prometheus::Counter* batch_retries;
  prometheus::Counter* replica_restarts;
  prometheus::Counter* cache_hits;
  prometheus::Counter* cache_misses;

 private:
  friend class Metrics;
  static constexpr int kRefusals = 5;
  std::array<prometheus::Counter*, kRefusals> refused_;
  prometheus::Counter* abandoned_cancelled_;
  prometheus::Counter* abandoned_expired_;
  std::array<prometheus::Counter*, 4> batch_failures_;  // by BatchFailure
  std::array<prometheus::Histogram*, 3> stages_{};      // by StageTimes' order; null on a CPU
};

// The handles of the response cache. Thread-safe.
struct CacheMetrics {
  prometheus::Counter* evictions;
  prometheus::Gauge* bytes;
  prometheus::Gauge* capacity_bytes;
  prometheus::Gauge* entries;
};

// How the last load of a model ended: at most one of them is 1. Thread-safe.
struct LoadMetrics {
  prometheus::Gauge* failed;
  prometheus::Gauge* self_test_failed;
};

// Owns the registry that /metrics shows. Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  // The handles of one model; the same name gives the same series. max_batch bounds the buckets of
  // the batch-size histogram.
  // `device` as in ModelInfo.
  std::unique_ptr<ModelMetrics> ForModel(const std::string& model, int max_batch,
                                         const std::string& device = "cpu");

  // Likewise, also of models that have never been served.
  LoadMetrics ForLoads(const std::string& model);

  // For requests that name no model that exists; they are counted under model="".
  std::unique_ptr<RequestMetrics> ForUnknownModel();

  // The same series at every call.
  std::unique_ptr<CacheMetrics> ForCache();

  // The same series at every call.
  ConnectionMetrics ForConnections();
  ConnectionMetrics ForHttpConnections();

  // The server's own budgets, under model="".
  BudgetMetrics ForBudgets() { return Budgets(""); }

  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

 private:
  struct Families;

  void Resolve(const std::string& model, RequestMetrics& metrics);
  BudgetMetrics Budgets(const std::string& model);

  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<Families> families_;
};

}  // namespace dla::server
