// dla-server: reads the settings, starts the server, waits for the signal to end.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/dla_model.h"
#include "model/gpu/plugin.h"
#include "model/memory.h"
#include "model/self_test.h"
#include "model/status_macros.h"
#include "model/threads.h"
#include "server/calibration_photos.h"
#include "server/config.h"
#include "server/cpu_limits.h"
#include "server/decoder_setup.h"
#include "server/decoders.h"
#include "server/log_value.h"
#include "server/logging.h"
#include "server/server.h"
#include "server/strays.h"
#include "server/thread_plan.h"
#include "server/token_table.h"
#include "spdlog/spdlog.h"

namespace {

using dla::server::ServerConfig;

dla::Precision PrecisionOf(const std::string& name) {
  if (name == "fp32") return dla::Precision::kFp32;
  if (name == "bf16") return dla::Precision::kBf16;
  if (name == "fp16") return dla::Precision::kFp16;
  if (name == "int8") return dla::Precision::kInt8;
  return dla::Precision::kAuto;
}

absl::StatusOr<std::unique_ptr<const dla::Model>> Load(const dla::server::ModelFolder& folder) {
  const dla::LoadOptions options = {
      .device = folder.settings.device,
      .precision = PrecisionOf(folder.settings.precision),
      .replicas = folder.settings.replicas,
      .max_batch = folder.settings.max_batch,
      .calibration_photos =
          [&folder] {
            spdlog::info(
                "quantising model={} to int8 on photos of its folder, which takes a while at each "
                "load; dla-quantize does it once",
                dla::server::LogValue(folder.name));
            return dla::server::CalibrationPhotos(folder.path);
          },
      .calibration_threads = dla::server::ReadCpuLimits().cores};
  return folder.path.empty() ? dla::LoadEmbeddedModel(options)
                             : dla::LoadModel(folder.path, options);
}

absl::Status SelfTest(const dla::server::ModelFolder& folder, const dla::Model& model) {
  DLA_ASSIGN_OR_RETURN(
      const std::vector<dla::SelfTestPhoto> photos,
      folder.path.empty() ? dla::EmbeddedSelfTest() : dla::ReadSelfTest(folder.path));
  return dla::RunSelfTest(model, photos);
}

// Whether a model may be put on a card.
bool MayUseGpus(const ServerConfig& config) {
  bool may = config.defaults.device != "cpu";
  for (const auto& model : config.models) may = may || model.settings.device != "cpu";
  for (const auto& [model, device] : config.places) may = may || device != "cpu";
  return may;
}

// Which cards there are, for their metrics.
std::vector<dla::server::GpuDevice> FindGpus(const ServerConfig& config) {
  std::vector<dla::server::GpuDevice> gpus;
  if (!MayUseGpus(config)) return gpus;
  const auto runtime = dla::gpu::FindRuntime();
  if (!runtime.ok()) return gpus;
  for (const dla::gpu::DeviceInfo& device : (*runtime)->devices()) {
    gpus.push_back({.label = std::to_string(device.index), .pci_bus_id = device.pci_bus_id});
  }
  return gpus;
}

// Or why none can be used.
void LogDevices(const ServerConfig& config) {
  if (!MayUseGpus(config)) return;
  const auto runtime = dla::gpu::FindRuntime();
  if (!runtime.ok()) {
    spdlog::info("devices cuda=0 cpu=yes why={}",
                 dla::server::LogValue(runtime.status().message()));
    return;
  }
  for (const dla::gpu::DeviceInfo& device : (*runtime)->devices()) {
    spdlog::info("device cuda:{} name={} capability={} memory_bytes={} pci={}", device.index,
                 dla::server::LogValue(device.name), device.capability, device.memory_bytes,
                 device.pci_bus_id);
  }
}

absl::StatusOr<dla::server::ServerDependencies> Dependencies(const ServerConfig& config) {
  std::vector<dla::server::GpuDevice> gpus = FindGpus(config);
  const auto prepare_thread = [] { dla::UseThreads(1); };
  const int threads =
      dla::server::DecodeThreads(config.decode_threads, dla::server::ReadCpuLimits());
  DLA_ASSIGN_OR_RETURN(
      dla::server::DecodeFunction decode,
      dla::server::SetUpDecoder(config, threads, prepare_thread, dla::gpu::FindRuntime,
                                dla::server::Clock::Real()));
  return dla::server::ServerDependencies{.load_model = Load,
                                         .self_test = SelfTest,
                                         .decode = std::move(decode),
                                         .count_pixels = dla::server::RealCountPixels(config),
                                         .prepare_decode_thread = prepare_thread,
                                         .gpus = std::move(gpus)};
}

// Blocks SIGTERM, SIGINT and SIGHUP for this thread and all that it starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// On SIGHUP: what may change while the server serves.
void ReadAgain(const std::vector<std::string>& args, dla::server::Server& server) {
  server.ReloadCredentials();
  const auto line = dla::server::ParseCommandLine(args);
  if (line.ok()) {
    server.SetVersionLabels(line->config.version_labels);
  } else {
    spdlog::error("version labels stay as they are: {}", std::string(line.status().message()));
  }
}

// What --hash-token prints for the line that standard input holds.
int HashToken() {
  std::string token;
  std::getline(std::cin, token);
  if (token.empty()) {
    std::cerr << "dla-server: standard input holds no token\n";
    return 2;
  }
  std::cout << dla::server::HashToken(token) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  auto line = dla::server::ParseCommandLine(args);
  if (!line.ok()) {
    std::cerr << "dla-server: " << line.status().message() << "\n";
    return 2;
  }
  if (!line->print_and_exit.empty()) {
    std::cout << line->print_and_exit;
    return 0;
  }
  if (line->hash_token) return HashToken();
  const ServerConfig& config = line->config;
  dla::server::SetUpLogging("dla-server", config.log_level);
  dla::KeepFreedMemory();
  const sigset_t signals = BlockSignals();

  const auto dependencies = Dependencies(config);
  if (!dependencies.ok()) {
    std::cerr << "dla-server: " << dependencies.status().message() << "\n";
    return 1;
  }
  auto server = dla::server::Server::Start(config, *dependencies);
  if (!server.ok()) {
    std::cerr << "dla-server: " << server.status().message() << "\n";
    return 1;
  }
  LogDevices(config);
  spdlog::info("ready grpc={} http={} metrics={}", (*server)->grpc_address(),
               (*server)->http_address(), (*server)->metrics_address());

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) ReadAgain(args, **server);
  // A second signal ends the process at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  spdlog::info("draining signal={} timeout={}s", signal, config.drain_timeout_s);
  const absl::Status drained = (*server)->Drain(std::chrono::seconds(config.drain_timeout_s));
  if (!drained.ok()) spdlog::error("drain: {}", drained.ToString());
  server->reset();
  spdlog::info("stopped");
  if (dla::server::Strays::total() > 0) {
    // Threads that cannot be ended would run into the destruction of static objects.
    spdlog::default_logger()->flush();
    std::_Exit(drained.ok() ? 0 : 1);
  }
  return drained.ok() ? 0 : 1;
}
