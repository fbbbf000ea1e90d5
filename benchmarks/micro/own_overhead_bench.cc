// What the server itself costs per request: everything but decoding and the forward pass. The whole
// server runs in this process, on a real socket, with a model and a decoder that do next to
// nothing; the callers are another process.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/micro/load.h"
#include "model/model.h"
#include "server/server.h"
#include "spdlog/spdlog.h"

namespace dla::bench {
namespace {

constexpr int kImageBytes = 110'000;
constexpr double kSeconds = 3;

// 1000 classes with names, so that softmax, top-k and the answer are as large as usual.
class IdleModel final : public Model {
 public:
  IdleModel() {
    info_.architecture = "idle";
    info_.precision = "fp32";
    info_.device = "cpu";
    info_.num_classes = 1000;
    info_.embedding_size = 256;
    info_.input.height = info_.input.width = 2;
    for (int i = 0; i < info_.num_classes; ++i) {
      info_.labels.push_back({.name = absl::StrCat("a class with a name, number ", i),
                              .id = absl::StrCat("n", 10'000'000 + i)});
      logits_.push_back(static_cast<float>(i * 7919 % 1000) * 0.01f);
    }
  }

  const ModelInfo& info() const override { return info_; }
  void PrepareThread(int) const override {}

  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override {
    output.logits.resize(photos.size() * info_.num_classes);
    output.embeddings.resize(photos.size() * info_.embedding_size);
    for (size_t i = 0; i < photos.size(); ++i) {
      std::copy(logits_.begin(), logits_.end(),
                output.logits.begin() + static_cast<std::ptrdiff_t>(i * info_.num_classes));
    }
    return absl::OkStatus();
  }

 private:
  ModelInfo info_;
  std::vector<float> logits_;
};

absl::StatusOr<std::unique_ptr<server::Server>> StartServer() {
  spdlog::set_level(spdlog::level::warn);
  // A folder that passes for a model's.
  const auto folder = std::filesystem::temp_directory_path() / "dla_own_overhead_bench";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << "{}";
  server::ServerConfig config;
  config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
  config.models = {{.name = "idle", .folder = folder.string(), .settings = {}}};
  return server::Server::Start(
      config, {.load_model =
                   [](const server::ModelFolder&) -> absl::StatusOr<std::unique_ptr<const Model>> {
                 return std::make_unique<IdleModel>();
               },
               .decode = [](absl::string_view bytes, const InputSpec& spec, const Proceed&,
                            const std::shared_ptr<PixelMemory>&) -> absl::StatusOr<Image> {
                 return Image{.height = spec.height,
                              .width = spec.width,
                              .pixels = Pixels(12, bytes[bytes.size() / 2])};
               }});
}

struct Usage {
  double cpu_seconds;
  long switches;  // of threads, to wait
};

Usage Now() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return {seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nvcsw};
}

void OwnOverhead(benchmark::State& state) {
  auto server = StartServer();
  if (!server.ok()) return state.SkipWithError(server.status().ToString().c_str());
  double requests = 0;
  double cpu = 0;
  double switches = 0;
  for (auto _ : state) {
    FILE* load = StartLoad((*server)->grpc_address(), static_cast<int>(state.range(0)), kSeconds,
                           kImageBytes);
    if (load == nullptr) return state.SkipWithError("cannot start the load");
    long answered = 0, failed = 0;
    double seconds = 0;
    if (std::fscanf(load, " begin") != 0) return state.SkipWithError("no load");
    if (std::fgetc(load) == EOF) return state.SkipWithError("the load ended early");
    const Usage before = Now();
    const int fields = std::fscanf(load, " end %ld %ld %lf", &answered, &failed, &seconds);
    const Usage after = Now();
    pclose(load);
    if (fields != 3 || answered == 0 || failed > 0) return state.SkipWithError("requests failed");
    requests += static_cast<double>(answered);
    cpu += after.cpu_seconds - before.cpu_seconds;
    switches += static_cast<double>(after.switches - before.switches);
    state.SetIterationTime(seconds);
  }
  state.counters["server_cpu_us_per_request"] = cpu * 1e6 / requests;
  state.counters["switches_per_request"] = switches / requests;
  state.counters["requests/s"] = benchmark::Counter(requests, benchmark::Counter::kIsRate);
}
BENCHMARK(OwnOverhead)
    ->ArgName("in_flight")
    ->Arg(1)
    ->Arg(8)
    ->Arg(32)
    ->Iterations(1)
    ->UseManualTime()
    ->Unit(benchmark::kSecond);

}  // namespace
}  // namespace dla::bench
