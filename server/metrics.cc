#include "server/metrics.h"

#include <map>

#include "server/version.h"

namespace dla::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

constexpr absl::string_view kMethodNames[] = {"Classify",   "ClassifyBatch",    "ClassifyStream",
                                              "ModelInfer", "ModelStreamInfer", "HttpClassify",
                                              "HttpInfer"};

constexpr const char* kRefusalNames[] = {"queue", "requests", "bytes", "pixels", "deadline"};
// By BatchFailure.
constexpr const char* kFailureNames[] = {"error", "exception", "out_of_memory", "timeout"};

// The codes that the service answers with. Their series exist from the start, so that rates are
// right from the first error on.
constexpr absl::StatusCode kAnswered[] = {
    absl::StatusCode::kOk,
    absl::StatusCode::kCancelled,
    absl::StatusCode::kInternal,
    absl::StatusCode::kInvalidArgument,
    absl::StatusCode::kNotFound,
    absl::StatusCode::kDeadlineExceeded,
    absl::StatusCode::kUnavailable,
    absl::StatusCode::kResourceExhausted,
    absl::StatusCode::kUnauthenticated,
};

const Buckets& StageBuckets() {
  static const Buckets buckets = {0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01,
                                  0.015,  0.02,  0.03,  0.05,  0.075, 0.1,    0.15,
                                  0.2,    0.3,   0.5,   1,     2,     5,      10};
  return buckets;
}

// Closer at the upper end, where the answers of a model that knows its photos lie.
const Buckets& ProbabilityBuckets() {
  static const Buckets buckets = {0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1};
  return buckets;
}

Buckets BatchBuckets(int max_batch) {
  Buckets buckets;
  for (int size = 1; size < max_batch; size *= 2) buckets.push_back(size);
  buckets.push_back(max_batch);
  return buckets;
}

template <typename Builder>
auto& Register(Builder builder, prometheus::Registry& registry, const char* name,
               const char* help) {
  return builder.Name(name).Help(help).Register(registry);
}

}  // namespace

struct Metrics::Families {
  explicit Families(prometheus::Registry& r)
      : requests(Register(prometheus::BuildCounter(), r, "dla_requests_total",
                          "Requests answered (of streams: messages), by gRPC status code.")),
        abandoned(
            Register(prometheus::BuildCounter(), r, "dla_abandoned_total",
                     "Photos dropped before inference because nobody waited for them any more.")),
        decode(Register(prometheus::BuildHistogram(), r, "dla_decode_seconds",
                        "Decoding and resizing of one photo.")),
        queue(Register(prometheus::BuildHistogram(), r, "dla_queue_seconds",
                       "Wait of one decoded photo for a replica.")),
        inference(Register(prometheus::BuildHistogram(), r, "dla_inference_seconds",
                           "Forward pass of one batch.")),
        gpu_stage(Register(prometheus::BuildHistogram(), r, "dla_gpu_stage_seconds",
                           "Stages of one batch on a GPU, by the GPU's own clock.")),
        request(Register(prometheus::BuildHistogram(), r, "dla_request_seconds",
                         "One request from its arrival to its answer.")),
        batch_size(Register(prometheus::BuildHistogram(), r, "dla_batch_size",
                            "Photos in one forward pass.")),
        top1_probability(Register(prometheus::BuildHistogram(), r, "dla_top1_probability",
                                  "Probability of the most probable class of each photo that was "
                                  "classified; answers of the cache are not counted again.")),
        queue_depth(Register(prometheus::BuildGauge(), r, "dla_queue_depth",
                             "Photos that wait or are being decoded.")),
        queue_capacity(Register(prometheus::BuildGauge(), r, "dla_queue_capacity",
                                "Photos that may wait before requests are refused.")),
        in_flight(Register(prometheus::BuildGauge(), r, "dla_in_flight",
                           "Photos accepted and not yet answered.")),
        replicas(Register(prometheus::BuildGauge(), r, "dla_replicas",
                          "Threads that run batches of the model.")),
        replicas_busy(Register(prometheus::BuildGauge(), r, "dla_replicas_busy",
                               "Replicas that are running a batch right now.")),
        refused(Register(prometheus::BuildCounter(), r, "dla_refused_total",
                         "Photos and requests refused at the door, by what there was no room or "
                         "time for.")),
        budget_used(Register(prometheus::BuildGauge(), r, "dla_budget_used",
                             "What is in flight: requests, bytes of their messages, pixels of "
                             "photos not yet decoded. The whole server's under model=\"\".")),
        budget_capacity(Register(prometheus::BuildGauge(), r, "dla_budget_capacity",
                                 "How much of that may be in flight; 0 where there is no limit.")),
        max_batch(Register(prometheus::BuildGauge(), r, "dla_max_batch",
                           "Most photos in one forward pass; lowered when memory runs out.")),
        healthy(Register(prometheus::BuildGauge(), r, "dla_model_healthy",
                         "1, or 0 while forward passes of the model fail again and again.")),
        load_failed(Register(prometheus::BuildGauge(), r, "dla_model_load_failed",
                             "1 while the newest files of the model could not be loaded or failed "
                             "the self-test; what was served before still is.")),
        batch_failures(Register(prometheus::BuildCounter(), r, "dla_batch_failures_total",
                                "Forward passes of photos that came to nothing.")),
        batch_retries(Register(prometheus::BuildCounter(), r, "dla_batch_retries_total",
                               "Second attempts at half of a batch that failed.")),
        replica_restarts(Register(prometheus::BuildCounter(), r, "dla_replica_restarts_total",
                                  "Replicas rebuilt after a failure.")),
        cache_hits(Register(prometheus::BuildCounter(), r, "dla_cache_hits_total",
                            "Photos answered by the response cache.")),
        cache_misses(Register(prometheus::BuildCounter(), r, "dla_cache_misses_total",
                              "Photos that the response cache did not know.")),
        cache_evictions(Register(prometheus::BuildCounter(), r, "dla_cache_evictions_total",
                                 "Answers dropped from the response cache for newer ones.")),
        cache_bytes(Register(prometheus::BuildGauge(), r, "dla_cache_bytes",
                             "Memory of the answers in the response cache.")),
        cache_capacity(Register(prometheus::BuildGauge(), r, "dla_cache_capacity_bytes",
                                "Memory that the response cache may take.")),
        cache_entries(Register(prometheus::BuildGauge(), r, "dla_cache_entries",
                               "Answers in the response cache.")),
        connections(Register(prometheus::BuildGauge(), r, "dla_connections",
                             "Open connections to gRPC's port.")),
        connections_limit(Register(prometheus::BuildGauge(), r, "dla_connections_limit",
                                   "How many may be open.")),
        connections_refused(Register(prometheus::BuildCounter(), r, "dla_connections_refused_total",
                                     "Connections that were hung up on at once.")),
        http_connections(Register(prometheus::BuildGauge(), r, "dla_http_connections",
                                  "Connections to the HTTP port that have a thread.")),
        http_connections_limit(Register(prometheus::BuildGauge(), r, "dla_http_connections_limit",
                                        "Threads for connections to the HTTP port.")),
        http_connections_refused(
            Register(prometheus::BuildCounter(), r, "dla_http_connections_refused_total",
                     "Connections to the HTTP port that there was no thread for.")),
        build_info(Register(prometheus::BuildGauge(), r, "dla_build_info",
                            "Always 1; its labels tell what is running.")) {}

  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Counter>& abandoned;
  prometheus::Family<prometheus::Histogram>& decode;
  prometheus::Family<prometheus::Histogram>& queue;
  prometheus::Family<prometheus::Histogram>& inference;
  prometheus::Family<prometheus::Histogram>& gpu_stage;
  prometheus::Family<prometheus::Histogram>& request;
  prometheus::Family<prometheus::Histogram>& batch_size;
  prometheus::Family<prometheus::Histogram>& top1_probability;
  prometheus::Family<prometheus::Gauge>& queue_depth;
  prometheus::Family<prometheus::Gauge>& queue_capacity;
  prometheus::Family<prometheus::Gauge>& in_flight;
  prometheus::Family<prometheus::Gauge>& replicas;
  prometheus::Family<prometheus::Gauge>& replicas_busy;
  prometheus::Family<prometheus::Counter>& refused;
  prometheus::Family<prometheus::Gauge>& budget_used;
  prometheus::Family<prometheus::Gauge>& budget_capacity;
  prometheus::Family<prometheus::Gauge>& max_batch;
  prometheus::Family<prometheus::Gauge>& healthy;
  prometheus::Family<prometheus::Gauge>& load_failed;
  prometheus::Family<prometheus::Counter>& batch_failures;
  prometheus::Family<prometheus::Counter>& batch_retries;
  prometheus::Family<prometheus::Counter>& replica_restarts;
  prometheus::Family<prometheus::Counter>& cache_hits;
  prometheus::Family<prometheus::Counter>& cache_misses;
  prometheus::Family<prometheus::Counter>& cache_evictions;
  prometheus::Family<prometheus::Gauge>& cache_bytes;
  prometheus::Family<prometheus::Gauge>& cache_capacity;
  prometheus::Family<prometheus::Gauge>& cache_entries;
  prometheus::Family<prometheus::Gauge>& connections;
  prometheus::Family<prometheus::Gauge>& connections_limit;
  prometheus::Family<prometheus::Counter>& connections_refused;
  prometheus::Family<prometheus::Gauge>& http_connections;
  prometheus::Family<prometheus::Gauge>& http_connections_limit;
  prometheus::Family<prometheus::Counter>& http_connections_refused;
  prometheus::Family<prometheus::Gauge>& build_info;
};

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      families_(std::make_unique<Families>(*registry_)) {
  families_->build_info
      .Add({{"version", kVersion}, {"compiler", __VERSION__}, {"libtorch", kLibTorchVersion}})
      .Set(1);
}

Metrics::~Metrics() = default;

void Metrics::Resolve(const std::string& model, RequestMetrics& metrics) {
  for (int method = 0; method < RequestMetrics::kMethods; ++method) {
    auto counter = [&](absl::StatusCode code) {
      return &families_->requests.Add({{"model", model},
                                       {"method", std::string(kMethodNames[method])},
                                       {"code", absl::StatusCodeToString(code)}});
    };
    auto& counters = metrics.requests_[method];
    counters.fill(counter(absl::StatusCode::kUnknown));
    for (absl::StatusCode code : kAnswered) counters[static_cast<int>(code)] = counter(code);
  }
  metrics.request_seconds = &families_->request.Add({{"model", model}}, StageBuckets());
}

std::unique_ptr<RequestMetrics> Metrics::ForUnknownModel() {
  auto metrics = std::make_unique<RequestMetrics>();
  Resolve("", *metrics);
  return metrics;
}

std::unique_ptr<ModelMetrics> Metrics::ForModel(const std::string& model, int max_batch,
                                                const std::string& device) {
  const std::map<std::string, std::string> labels = {{"model", model}};
  Families& f = *families_;
  auto metrics = std::make_unique<ModelMetrics>();
  Resolve(model, *metrics);
  metrics->abandoned_cancelled_ = &f.abandoned.Add({{"model", model}, {"reason", "cancelled"}});
  metrics->abandoned_expired_ = &f.abandoned.Add({{"model", model}, {"reason", "expired"}});
  metrics->decode_seconds = &f.decode.Add(labels, StageBuckets());
  metrics->queue_seconds = &f.queue.Add(labels, StageBuckets());
  metrics->inference_seconds = &f.inference.Add(labels, StageBuckets());
  metrics->batch_size = &f.batch_size.Add(labels, BatchBuckets(max_batch));
  metrics->top1_probability = &f.top1_probability.Add(labels, ProbabilityBuckets());
  for (int i = 0; i < ModelMetrics::kRefusals; ++i) {
    metrics->refused_[i] = &f.refused.Add({{"model", model}, {"reason", kRefusalNames[i]}});
  }
  metrics->queue = {.used = &f.queue_depth.Add(labels), .capacity = &f.queue_capacity.Add(labels)};
  metrics->budgets = Budgets(model);
  metrics->in_flight = &f.in_flight.Add(labels);
  metrics->replicas = &f.replicas.Add(labels);
  metrics->replicas_busy = &f.replicas_busy.Add(labels);
  metrics->max_batch = &f.max_batch.Add(labels);
  metrics->healthy = &f.healthy.Add(labels);
  for (size_t i = 0; i < metrics->batch_failures_.size(); ++i) {
    metrics->batch_failures_[i] =
        &f.batch_failures.Add({{"model", model}, {"reason", kFailureNames[i]}});
  }
  constexpr const char* kStages[] = {"copy_in", "compute", "copy_out"};
  for (size_t i = 0; device != "cpu" && i < metrics->stages_.size(); ++i) {
    metrics->stages_[i] =
        &f.gpu_stage.Add({{"model", model}, {"stage", kStages[i]}}, StageBuckets());
  }
  metrics->batch_retries = &f.batch_retries.Add(labels);
  metrics->replica_restarts = &f.replica_restarts.Add(labels);
  metrics->cache_hits = &f.cache_hits.Add(labels);
  metrics->cache_misses = &f.cache_misses.Add(labels);
  return metrics;
}

BudgetMetrics Metrics::Budgets(const std::string& model) {
  auto gauges = [&](const char* resource) {
    const std::map<std::string, std::string> labels = {{"model", model}, {"resource", resource}};
    return BudgetGauges{.used = &families_->budget_used.Add(labels),
                        .capacity = &families_->budget_capacity.Add(labels)};
  };
  return {.requests = gauges("requests"), .bytes = gauges("bytes"), .pixels = gauges("pixels")};
}

LoadMetrics Metrics::ForLoads(const std::string& model) {
  auto gauge = [&](const char* reason) {
    return &families_->load_failed.Add({{"model", model}, {"reason", reason}});
  };
  return {.failed = gauge("load"), .self_test_failed = gauge("self_test")};
}

ConnectionMetrics Metrics::ForConnections() {
  return {.open = {.used = &families_->connections.Add({}),
                   .capacity = &families_->connections_limit.Add({})},
          .refused = &families_->connections_refused.Add({})};
}

ConnectionMetrics Metrics::ForHttpConnections() {
  return {.open = {.used = &families_->http_connections.Add({}),
                   .capacity = &families_->http_connections_limit.Add({})},
          .refused = &families_->http_connections_refused.Add({})};
}

std::unique_ptr<CacheMetrics> Metrics::ForCache() {
  Families& f = *families_;
  return std::make_unique<CacheMetrics>(CacheMetrics{.evictions = &f.cache_evictions.Add({}),
                                                     .bytes = &f.cache_bytes.Add({}),
                                                     .capacity_bytes = &f.cache_capacity.Add({}),
                                                     .entries = &f.cache_entries.Add({})});
}

void RequestMetrics::CountRequest(Method method, absl::StatusCode code) {
  const int index = static_cast<int>(code);
  requests_[static_cast<int>(method)][index < kCodes ? index : 2]->Increment();
}

void ModelMetrics::ObserveStages(const StageTimes& times) {
  if (stages_[0] == nullptr) return;
  stages_[0]->Observe(times.copy_in);
  stages_[1]->Observe(times.compute);
  stages_[2]->Observe(times.copy_out);
}

void ModelMetrics::CountRefused(Refusal reason) {
  refused_[static_cast<size_t>(reason)]->Increment();
}

void ModelMetrics::CountAbandoned(const absl::Status& status) {
  (absl::IsCancelled(status) ? abandoned_cancelled_ : abandoned_expired_)->Increment();
}

}  // namespace dla::server
