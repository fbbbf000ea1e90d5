// dla-server with models that fail on purpose:
//   dla-chaos-server [--faults error=0.01,oom=0.02,...] [flags of dla-server]
// See FaultSchedule::Parse. In a build without LibTorch every model folder is checked as dla-server
// does, photos are decoded by the real decoders, and a fake network answers with the value of the
// photo's first byte, so that all but the networks runs under the sanitizers.
#include <signal.h>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "model/status_macros.h"
#include "server/config.h"
#include "server/decoders.h"
#include "server/logging.h"
#include "server/server.h"
#include "spdlog/spdlog.h"
#include "tests/chaos/faulty_model.h"
#ifdef DLA_CHAOS_WITH_LIBTORCH
#include "model/dla_model.h"
#include "model/memory.h"
#include "model/self_test.h"
#include "model/threads.h"
#else
#include "model/model_config.h"
#include "model/safetensors.h"
#include "model/whole_file.h"
#include "tests/support/fake_model.h"
#endif

namespace {

using dla::server::ModelFolder;
using dla::testing::FaultSchedule;

#ifdef DLA_CHAOS_WITH_LIBTORCH
absl::StatusOr<std::unique_ptr<const dla::Model>> LoadNetwork(const ModelFolder& folder) {
  const dla::LoadOptions options = {.device = folder.settings.device};
  if (folder.path.empty()) return dla::LoadEmbeddedModel(options);
  return dla::LoadModel(folder.path, options);
}

absl::Status SelfTest(const ModelFolder& folder, const dla::Model& model) {
  if (folder.path.empty()) return absl::OkStatus();
  DLA_ASSIGN_OR_RETURN(const auto photos, dla::ReadSelfTest(folder.path));
  return dla::RunSelfTest(model, photos);
}

void PrepareProcess() { dla::KeepFreedMemory(); }
void PrepareDecodeThread() { dla::UseThreads(1); }
#else
absl::StatusOr<std::unique_ptr<const dla::Model>> LoadNetwork(const ModelFolder& folder) {
  constexpr int kClasses = 256;  // one for each value of a byte
  if (!folder.path.empty()) {
    const std::string config = folder.path + "/config.json";
    DLA_ASSIGN_OR_RETURN(const std::string json, dla::ReadWholeFile(config, 1 << 20, ""));
    DLA_RETURN_IF_ERROR(dla::ParseModelConfig(json, config).status());
    DLA_RETURN_IF_ERROR(dla::SafeTensors::Open(folder.path + "/model.safetensors").status());
  }
  return std::make_unique<dla::FakeModel>(kClasses);
}

absl::Status SelfTest(const ModelFolder&, const dla::Model&) { return absl::OkStatus(); }
void PrepareProcess() {}
void PrepareDecodeThread() {}
#endif

dla::server::ServerDependencies Dependencies(const dla::server::ServerConfig& config,
                                             FaultSchedule& faults) {
  return {.load_model = [&faults](const ModelFolder& folder)
              -> absl::StatusOr<std::unique_ptr<const dla::Model>> {
            DLA_ASSIGN_OR_RETURN(std::unique_ptr<const dla::Model> model, LoadNetwork(folder));
            return std::make_unique<dla::testing::FaultyModel>(std::move(model), faults);
          },
          .self_test =
              [](const ModelFolder& folder, const dla::Model& model) {
                const auto& faulty = static_cast<const dla::testing::FaultyModel&>(model);
                return SelfTest(folder, faulty.inner());
              },
          .decode = dla::server::RealDecode(config),
          .count_pixels = dla::server::RealCountPixels(config),
          .prepare_decode_thread = PrepareDecodeThread};
}

sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

absl::StatusOr<int> Serve(std::vector<std::string> args) {
  std::string faults;
  if (args.size() >= 2 && args[0] == "--faults") {
    faults = args[1];
    args.erase(args.begin(), args.begin() + 2);
  }
  DLA_ASSIGN_OR_RETURN(const std::unique_ptr<FaultSchedule> schedule, FaultSchedule::Parse(faults));
  DLA_ASSIGN_OR_RETURN(const dla::server::CommandLine line, dla::server::ParseCommandLine(args));
  const dla::server::ServerConfig& config = line.config;
  dla::server::SetUpLogging("dla-chaos-server", "info");
  PrepareProcess();
  const sigset_t signals = BlockSignals();
  DLA_ASSIGN_OR_RETURN(std::unique_ptr<dla::server::Server> server,
                       dla::server::Server::Start(config, Dependencies(config, *schedule)));
  spdlog::info("ready grpc={} http={} metrics={}", server->grpc_address(), server->http_address(),
               server->metrics_address());
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) {
    DLA_ASSIGN_OR_RETURN(const auto again, dla::server::ParseCommandLine(args));
    server->SetVersionLabels(again.config.version_labels);
  }
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  const absl::Status drained = server->Drain(std::chrono::seconds(config.drain_timeout_s));
  server.reset();
  spdlog::info("faults {}", schedule->Summary());
  spdlog::info("stopped");
  DLA_RETURN_IF_ERROR(drained);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::StatusOr<int> code = Serve({argv + 1, argv + argc});
  if (code.ok()) return *code;
  std::cerr << "dla-chaos-server: " << code.status().message() << "\n";
  return 1;
}
