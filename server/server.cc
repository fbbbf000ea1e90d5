#include "server/server.h"

#include <atomic>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "model/status_macros.h"
#include "server/address.h"
#include "server/calibrator.h"
#include "server/call_tracker.h"
#include "server/classifier_service.h"
#include "server/http_routes.h"
#include "server/http_server.h"
#include "server/inference_service.h"
#include "server/metrics.h"
#include "server/model_registry.h"
#include "server/process_metrics.h"
#include "server/response_cache.h"
#include "server/thread_plan.h"
#include "server/version.h"
#include "spdlog/spdlog.h"

namespace dla::server {

// Destroyed from the last to the first: doors, then what stands behind them.
struct Server::Parts {
  Parts(const ServerConfig& config, const ServerDependencies& dependencies, int decode_threads)
      : process_metrics(std::make_shared<ProcessMetrics>()),
        unknown_model(metrics.ForUnknownModel()),
        cache(config.cache_bytes == 0 ? nullptr
                                      : std::make_unique<ResponseCache>(config.cache_bytes, metrics,
                                                                        dependencies.clock)),
        pipeline({.decode_threads = decode_threads,
                  .prepare_decode_thread = dependencies.prepare_decode_thread,
                  .cache = cache.get()},
                 dependencies.decode, dependencies.clock),
        calls(dependencies.clock),
        regions({.read_bytes = static_cast<uint64_t>(config.max_message_bytes)}),
        service({.registry = registry,
                 .pipeline = pipeline,
                 .calls = calls,
                 .unknown_model = *unknown_model,
                 .clock = dependencies.clock}),
        inference({.registry = registry,
                   .pipeline = pipeline,
                   .calls = calls,
                   .unknown_model = *unknown_model,
                   .clock = dependencies.clock,
                   .max_pixels = config.max_pixels,
                   .ready = ready,
                   .regions = config.allow_shared_memory ? &regions : nullptr}),
        grpc_address(config.grpc_address),
        clock(dependencies.clock) {}

  Metrics metrics;
  const std::shared_ptr<ProcessMetrics> process_metrics;
  const std::unique_ptr<RequestMetrics> unknown_model;
  const std::unique_ptr<ResponseCache> cache;  // null: none
  ModelRegistry registry;
  Pipeline pipeline;
  std::atomic<bool> ready = false;
  CallTracker calls;
  SharedMemoryRegions regions;
  ClassifierService service;
  InferenceService inference;
  std::string grpc_address;
  Clock& clock;
  std::unique_ptr<HttpServer> metrics_http;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<grpc::Server> grpc;
};

namespace {

absl::Status LoadModels(const ServerConfig& config, const ServerDependencies& dependencies,
                        Metrics& metrics, ModelRegistry& registry, ThreadPlan& plan) {
  DLA_ASSIGN_OR_RETURN(std::vector<ModelFolder> folders, FindModelFolders(config));
  if (folders.empty()) {
    folders.push_back(
        {.name = "flowers5", .version = "1", .path = "", .settings = config.defaults});
  }
  Calibrator calibrator(
      {.measure = config.calibrate,
       .limits = plan.limits,
       .cache_path = CalibrationCachePath(config.calibration_cache),
       .program = absl::StrCat("dla-server ", kVersion, ", LibTorch ", kLibTorchVersion)},
      dependencies.clock);
  for (const ModelFolder& folder : folders) {
    const TimePoint start = dependencies.clock.Now();
    absl::StatusOr<std::unique_ptr<const Model>> model = dependencies.load_model(folder);
    if (model.ok() && dependencies.self_test) {
      if (absl::Status status = dependencies.self_test(folder, **model); !status.ok()) {
        model = std::move(status);
      }
    }
    if (!model.ok()) {
      return absl::Status(model.status().code(), absl::StrCat("cannot load model \"", folder.name,
                                                              "\": ", model.status().message()));
    }
    const ModelSettings& settings = folder.settings;
    const Duration loading = dependencies.clock.Now() - start;
    const Share share = calibrator.Choose(folder.name, settings, **model);
    plan.models.push_back({folder.name, share});
    const ModelInfo info = (*model)->info();
    registry.Add(std::make_shared<ServedModel>(
        folder.name, folder.version, *std::move(model),
        ServedModel::Options{
            .replicas = share.replicas,
            .compute_threads = share.threads,
            .queue = {.capacity = static_cast<size_t>(settings.queue_capacity),
                      .max_batch = share.max_batch,
                      .max_delay = std::chrono::microseconds(settings.max_queue_delay_us)},
            .cache = settings.cache},
        metrics, dependencies.clock));
    spdlog::info(
        "loaded model={} version={} architecture={} classes={} input={}x{} precision={} device={} "
        "engine={} replicas={} threads={} max_batch={} seconds={:.2f}",
        folder.name, folder.version, info.architecture, info.num_classes, info.input.height,
        info.input.width, info.precision, info.device, info.engine, share.replicas, share.threads,
        share.max_batch, Seconds(loading));
    if (absl::StartsWith(info.engine, "libtorch")) {
      spdlog::warn(
          "model {} runs on LibTorch's operations, which are slower: for {} this processor lacks "
          "{}",
          folder.name, info.precision,
          info.precision == "bf16" ? "AVX-512 BF16 and AMX" : "AVX-512");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartGrpc(const ServerConfig& config,
                                                        grpc::Service& service,
                                                        grpc::Service& inference, int& port) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(config.grpc_address, grpc::InsecureServerCredentials(), &port);
  // Otherwise a second server could take the same port and half of the requests.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(config.max_message_bytes);
  builder.RegisterService(&service);
  builder.RegisterService(&inference);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return CannotListen("gRPC", config.grpc_address, "--grpc-address");
  }
  return server;
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
  auto parts = std::make_unique<Parts>(config, dependencies, plan.decode_threads);

  DLA_ASSIGN_OR_RETURN(
      parts->metrics_http,
      HttpServer::Start(
          {.address = config.metrics_address, .purpose = "metrics", .flag = "--metrics-address"},
          [&parts](httplib::Server& http) {
            AddMetricsRoute(http, {parts->metrics.registry(), parts->process_metrics});
          }));
  DLA_ASSIGN_OR_RETURN(
      parts->http,
      HttpServer::Start(
          {.address = config.http_address, .purpose = "HTTP", .flag = "--http-address"},
          [&parts](httplib::Server& http) { AddHealthRoutes(http, parts->ready); }));

  DLA_RETURN_IF_ERROR(LoadModels(config, dependencies, parts->metrics, parts->registry, plan));

  int port = 0;
  const int threads_before = CountThreads();
  DLA_ASSIGN_OR_RETURN(parts->grpc, StartGrpc(config, parts->service, parts->inference, port));
  plan.grpc_threads = CountThreads() - threads_before;
  for (const std::string& warning : Warnings(plan)) spdlog::warn(warning);
  spdlog::info(ToString(plan));
  parts->grpc_address = WithPort(config.grpc_address, port);
  for (const auto& model : parts->registry.models()) {
    parts->grpc->GetHealthCheckService()->SetServingStatus(model->name(), true);
  }
  parts->ready = true;
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

absl::Status Server::Drain(Duration timeout) {
  parts_->ready = false;
  parts_->grpc->GetHealthCheckService()->SetServingStatus(false);
  // gRPC itself closes last: it cancels calls that arrive while it does, where the service tells
  // them to go elsewhere. So callers that were just answered get a moment to hear that on their
  // next call.
  const bool answered = parts_->calls.Drain(parts_->clock.Now() + timeout);
  const auto closing = answered ? std::chrono::seconds(1) : std::chrono::seconds(0);
  if (answered && timeout > Duration::zero()) RefuseFor(kRefusalTime);
  parts_->grpc->Shutdown(std::chrono::system_clock::now() + closing);
  parts_->grpc.reset();
  if (answered) return absl::OkStatus();
  return absl::DeadlineExceededError("requests were still unanswered and were cancelled");
}

const std::string& Server::grpc_address() const { return parts_->grpc_address; }
const std::string& Server::http_address() const { return parts_->http->address(); }
const std::string& Server::metrics_address() const { return parts_->metrics_http->address(); }

}  // namespace dla::server
