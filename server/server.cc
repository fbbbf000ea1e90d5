#include "server/server.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/health_check_service_interface.h"
#include "model/status_macros.h"
#include "server/address.h"
#include "server/calibrator.h"
#include "server/call_tracker.h"
#include "server/classifier_service.h"
#include "server/credential_files.h"
#include "server/gatekeeper.h"
#include "server/gpu_metrics.h"
#include "server/grpc_door.h"
#include "server/health_publisher.h"
#include "server/http_call.h"
#include "server/http_classify.h"
#include "server/http_infer.h"
#include "server/http_routes.h"
#include "server/http_server.h"
#include "server/inference_service.h"
#include "server/metrics.h"
#include "server/model_manager.h"
#include "server/model_registry.h"
#include "server/page_routes.h"
#include "server/process_metrics.h"
#include "server/reaper.h"
#include "server/response_cache.h"
#include "server/thread_plan.h"
#include "server/version.h"
#include "spdlog/spdlog.h"

namespace dla::server {

namespace {

std::unique_ptr<ModelLoader> MakeLoader(const ServerConfig& config,
                                        const ServerDependencies& dependencies,
                                        const CpuLimits& limits, Metrics& metrics, Reaper& reaper,
                                        HealthPublisher& health) {
  Calibrator calibrator(
      {.measure = config.calibrate,
       .limits = limits,
       .cache_path = CalibrationCachePath(config.calibration_cache),
       .program = absl::StrCat("dla-server ", kVersion, ", LibTorch ", kLibTorchVersion)},
      dependencies.clock);
  return std::make_unique<ModelLoader>(
      dependencies.load_model, dependencies.self_test, std::move(calibrator),
      ModelLoader::Context{
          .metrics = metrics,
          .reaper = reaper,
          .clock = dependencies.clock,
          .on_health = [&health](const std::string& name) { health.Publish(name); }});
}

}  // namespace

// Destroyed from the last to the first: doors, then what stands behind them.
struct Server::Parts {
  Parts(const ServerConfig& config, const ServerDependencies& dependencies, const ThreadPlan& plan,
        std::unique_ptr<CredentialFiles> credential_files)
      : process_metrics(std::make_shared<ProcessMetrics>()),
        gpu_metrics(std::make_shared<GpuMetrics>(dependencies.gpus)),
        unknown_model(metrics.ForUnknownModel()),
        budgets({.requests = config.max_requests_in_flight,
                 .bytes = config.max_bytes_in_flight,
                 .pixels = config.max_pixels_in_flight},
                "the server", "--", metrics.ForBudgets()),
        cache(config.cache_bytes == 0 ? nullptr
                                      : std::make_unique<ResponseCache>(config.cache_bytes, metrics,
                                                                        dependencies.clock)),
        health(registry),
        pipeline({.decode_threads = plan.decode_threads,
                  .prepare_decode_thread = dependencies.prepare_decode_thread,
                  .max_decode = std::chrono::milliseconds(config.max_decode_ms),
                  .cache = cache.get(),
                  .pixels = &budgets.pixels,
                  .count_pixels = dependencies.count_pixels},
                 dependencies.decode, dependencies.clock),
        manager(config, MakeLoader(config, dependencies, plan.limits, metrics, reaper, health),
                registry, dependencies.clock),
        calls(dependencies.clock),
        regions({.read_bytes = static_cast<uint64_t>(config.max_message_bytes)}),
        gate(
            {.tokens = credential_files->tokens(), .client_id_metadata = config.client_id_metadata},
            dependencies.clock),
        context{.gate = gate,
                .registry = registry,
                .pipeline = pipeline,
                .calls = calls,
                .budgets = budgets,
                .unknown_model = *unknown_model,
                .ready = ready,
                .clock = dependencies.clock},
        service(context),
        inference_context{.service = context,
                          .max_pixels = config.max_pixels,
                          .regions = config.allow_shared_memory ? &regions : nullptr,
                          .manager = manager},
        inference(inference_context),
        credentials(std::move(credential_files)),
        clock(dependencies.clock) {}

  void AddPage(httplib::Server& http_server) {
    AddPageRoutes(http_server);
    AddMetricsRoute(http_server, collectables(), [this](const httplib::Request& request) {
      return AdmitHttp(context, request, Scope::kInfer, "HttpMetrics").status();
    });
  }

  std::vector<std::shared_ptr<prometheus::Collectable>> collectables() const {
    return {metrics.registry(), process_metrics, gpu_metrics};
  }

  Metrics metrics;
  const std::shared_ptr<ProcessMetrics> process_metrics;
  const std::shared_ptr<GpuMetrics> gpu_metrics;
  const std::unique_ptr<RequestMetrics> unknown_model;
  Budgets budgets;
  const std::unique_ptr<ResponseCache> cache;  // null: none
  // Models tell it to the last, but it asks the registry only until Drain.
  HealthPublisher health;
  Reaper reaper;
  ModelRegistry registry;
  Pipeline pipeline;
  ModelManager manager;
  std::atomic<bool> ready = false;
  CallTracker calls;
  SharedMemoryRegions regions;
  Gatekeeper gate;
  const ServiceContext context;
  ClassifierService service;
  const InferenceContext inference_context;
  InferenceService inference;
  const std::unique_ptr<CredentialFiles> credentials;
  Clock& clock;
  std::unique_ptr<HttpServer> metrics_http;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<GrpcDoor> grpc;
};

namespace {

void WarnOfOpenDoors(const ServerConfig& config) {
  auto loopback = [](const std::string& address) {
    const std::string host = SplitAddress(address).host;
    return host == "localhost" || host == "::1" || host.starts_with("127.");
  };
  if (config.token_file.empty() || !config.tls_certificate.empty()) return;
  if (loopback(config.grpc_address) && loopback(config.http_address)) return;
  spdlog::warn(
      "tokens travel in plaintext: give --tls-cert and --tls-key, or let a proxy end TLS and "
      "bind --grpc-address and --http-address to 127.0.0.1");
}

// How long calls are still refused by the service after the last accepted one was answered.
constexpr Duration kRefusalTime = std::chrono::milliseconds(250);

// By the machine's clock: it is callers elsewhere who need the time.
void RefuseFor(Duration time) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  const TimePoint end = Clock::Real().Now() + time;
  while (Clock::Real().Now() < end) Clock::Real().WaitUntil(never, mu, end);
}

}  // namespace

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() {
  if (parts_->grpc != nullptr) (void)Drain(Duration::zero());
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config,
                                                      const ServerDependencies& dependencies) {
  ThreadPlan plan;
  plan.limits = ReadCpuLimits();
  plan.decode_threads = DecodeThreads(config.decode_threads, plan.limits);
  DLA_ASSIGN_OR_RETURN(
      std::unique_ptr<CredentialFiles> credentials,
      CredentialFiles::Read({.tls = {.certificate = config.tls_certificate,
                                     .key = config.tls_key,
                                     .client_ca = config.tls_client_ca},
                             .token_file = config.token_file,
                             .poll = std::chrono::seconds(config.credentials_poll_s)},
                            dependencies.clock));
  auto parts = std::make_unique<Parts>(config, dependencies, plan, std::move(credentials));

  DLA_ASSIGN_OR_RETURN(
      parts->metrics_http,
      HttpServer::Start(
          {.address = config.metrics_address, .purpose = "metrics", .flag = "--metrics-address"},
          [&parts](httplib::Server& http) { AddMetricsRoute(http, parts->collectables()); }));
  DLA_ASSIGN_OR_RETURN(parts->http,
                       HttpServer::Start({.address = config.http_address,
                                          .purpose = "HTTP",
                                          .flag = "--http-address",
                                          .threads = config.http_threads,
                                          .tls = parts->credentials->http_tls(),
                                          .metrics = parts->metrics.ForHttpConnections()},
                                         [&parts, &config](httplib::Server& http) {
                                           const auto max_body =
                                               static_cast<size_t>(config.max_message_bytes);
                                           AddHealthRoutes(http, parts->ready);
                                           AddClassifyRoutes(http, parts->context, max_body);
                                           AddInferRoutes(http, parts->inference_context, max_body);
                                           if (config.page) parts->AddPage(http);
                                         }));

  DLA_RETURN_IF_ERROR(parts->manager.LoadInitial());
  for (const auto& model : parts->registry.models()) {
    const ServedModel::Options& options = model->options();
    plan.models.push_back({model->name(),
                           {.replicas = options.replicas,
                            .threads = options.compute_threads,
                            .max_batch = options.queue.max_batch}});
  }

  const int threads_before = CountThreads();
  DLA_ASSIGN_OR_RETURN(parts->grpc,
                       GrpcDoor::Start(config, {&parts->service, &parts->inference},
                                       parts->credentials->tls(), parts->metrics.ForConnections()));
  plan.grpc_threads = CountThreads() - threads_before;
  for (const std::string& warning : Warnings(plan)) spdlog::warn(warning);
  spdlog::info(ToString(plan));
  WarnOfOpenDoors(config);
  parts->credentials->Watch(parts->gate);
  HealthPublisher& health = parts->health;
  health.Start(parts->grpc->health());
  for (const auto& model : parts->registry.models()) health.Publish(model->name());
  parts->manager.Start([&health](const std::string& name, bool) { health.Publish(name); });
  parts->ready = true;
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

absl::Status Server::Drain(Duration timeout) {
  parts_->ready = false;
  parts_->grpc->health().Shutdown();  // for good, whatever is loaded meanwhile
  parts_->manager.Close();
  // gRPC itself closes last: it cancels calls that arrive while it does, where the service tells
  // them to go elsewhere. So callers that were just answered get a moment to hear that on their
  // next call.
  const bool answered = parts_->calls.Drain(parts_->clock.Now() + timeout);
  const auto closing = answered ? std::chrono::seconds(1) : std::chrono::seconds(0);
  if (answered && timeout > Duration::zero()) RefuseFor(kRefusalTime);
  parts_->grpc->Shutdown(std::chrono::system_clock::now() + closing);
  parts_->http->EndRequests();
  parts_->calls.Drain(TimePoint::max());  // those of HTTP that were just cancelled
  parts_->manager.Stop();
  parts_->health.Stop();  // it uses gRPC's health service
  parts_->grpc.reset();
  if (answered) return absl::OkStatus();
  return absl::DeadlineExceededError("requests were still unanswered and were cancelled");
}

void Server::SetVersionLabels(const std::map<std::string, VersionLabels>& labels) {
  parts_->manager.SetLabels(labels, [](absl::Status status) {
    if (status.ok()) {
      spdlog::info("version labels are set");
    } else {
      spdlog::error("version labels: {}", std::string(status.message()));
    }
  });
}

void Server::ReloadCredentials() { parts_->credentials->Reload(); }

const std::string& Server::grpc_address() const { return parts_->grpc->address(); }
const std::string& Server::http_address() const { return parts_->http->address(); }
const std::string& Server::metrics_address() const { return parts_->metrics_http->address(); }

}  // namespace dla::server
