// Photos per second of Model::Run, and the page faults that it costs.
//   dla_forward_bench [--default-malloc] [--benchmark_filter=dla34/bf16]
// VARIANT/PRECISION/compute_threads:C/batch:B/threads:R runs R replicas at once, each of which has
// B photos classified by C threads. Weights are arbitrary, for time does not depend on them; in
// int8, where it is Network::Run that is measured, the steps are those of one small photo.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/dla_model.h"
#include "model/memory.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"

#ifdef DLA_OWN_KERNELS
#include "model/architecture.h"
#include "model/cpu/cpu_network.h"
#include "model/layout.h"
#include "tests/support/int8_reference.h"
#endif

namespace {

constexpr int kSize = 224;
constexpr int kClasses = 1000;

// Loads each model once, when it is first asked for. Thread-safe.
const dla::Model& Load(const std::string& variant, dla::Precision precision) {
  static std::mutex mutex;
  static auto& loaded =
      *new std::map<std::pair<std::string, dla::Precision>, std::unique_ptr<dla::Model>>;
  const std::lock_guard lock(mutex);
  std::unique_ptr<dla::Model>& model = loaded[{variant, precision}];
  if (model == nullptr) {
    const dla::testing::TempDir folder;
    dla::WriteModelFolder(folder.Path(), dla::MakeConfigJson(variant, kClasses, kSize, kSize),
                          dla::MakeFormulaTensors(variant, kClasses));
    model = dla::LoadModel(folder.Path(), {.device = "cpu", .precision = precision}).value();
  }
  return *model;
}

#ifdef DLA_OWN_KERNELS
// The same in int8.
const dla::Network& LoadInt8(const std::string& variant, const dla::cpu::Int8Kernels& kernels) {
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, std::unique_ptr<dla::Network>>;
  const std::lock_guard lock(mutex);
  std::unique_ptr<dla::Network>& network = loaded[variant];
  if (network == nullptr) {
    const dla::NetworkLayout layout = dla::MakeLayout(**dla::FindArchitecture(variant), kClasses);
    const dla::FormulaTensors tensors = dla::MakeFormulaTensors(variant, kClasses);
    const auto source = [&](const std::string& name) {
      const std::vector<uint8_t>& bytes = tensors.at(name).bytes;
      std::vector<float> values(bytes.size() / sizeof(float));
      std::memcpy(values.data(), bytes.data(), bytes.size());
      return values;
    };
    const dla::Quantization quantization = dla::QuantizeMinMax(
        layout, source, {.height = 32, .width = 32}, dla::MakeFormulaPhoto("calibration", 32, 32));
    network = std::make_unique<dla::cpu::CpuNetwork>(
        layout, source, quantization, dla::InputSpec{.height = kSize, .width = kSize}, kernels);
  }
  return *network;
}

void ForwardInt8(benchmark::State& state, const std::string& variant, int compute_threads) {
  const dla::cpu::Int8Kernels* kernels = dla::cpu::FindInt8Kernels();
  if (kernels == nullptr) {
    state.SkipWithError("this processor has no AVX-512 VNNI");
    return;
  }
  const dla::Network& network = LoadInt8(variant, *kernels);
  const auto photo = dla::MakeFormulaPhoto("photo", kSize, kSize);
  const std::vector<dla::PhotoInput> photos(state.range(0), photo.data());
  std::vector<float> logits(photos.size() * kClasses);
  std::vector<float> embeddings(photos.size() * 1024);
  dla::cpu::CpuNetwork::UseThreads(compute_threads);
  network.Run(photos, logits.data(), embeddings.data());
  for (auto _ : state) network.Run(photos, logits.data(), embeddings.data());
  const auto count = static_cast<double>(state.iterations() * photos.size());
  state.counters["photos/s"] = benchmark::Counter(count, benchmark::Counter::kIsRate);
}
#endif

long PageFaults() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

void Forward(benchmark::State& state, const std::string& variant, dla::Precision precision,
             int compute_threads) {
  const dla::Model& model = Load(variant, precision);
  const auto photo = dla::MakeFormulaPhoto("photo", kSize, kSize);
  const std::vector<dla::PhotoInput> photos(state.range(0), photo.data());
  dla::BatchOutput output;
  model.PrepareThread(compute_threads);
  // oneDNN compiles its kernels the first time.
  if (!model.Run(photos, output).ok()) state.SkipWithError("Run failed");
  const long faults = PageFaults();
  for (auto _ : state) {
    if (!model.Run(photos, output).ok()) state.SkipWithError("Run failed");
  }
  const auto count = static_cast<double>(state.iterations() * photos.size());
  state.counters["photos/s"] = benchmark::Counter(count, benchmark::Counter::kIsRate);
  state.counters["faults/photo"] = benchmark::Counter(
      static_cast<double>(PageFaults() - faults) / count, benchmark::Counter::kAvgThreads);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const bool default_malloc = argc == 2 && std::strcmp(argv[1], "--default-malloc") == 0;
  if (argc > 1 && !default_malloc) {
    benchmark::ReportUnrecognizedArguments(argc, argv);
    return 2;
  }
  if (!default_malloc) dla::KeepFreedMemory();
  dla::UseThreads(1);
  struct Share {
    int compute_threads, replicas;
  };
  constexpr Share kShares[] = {{1, 1}, {2, 1}, {1, 2}};
  const auto add = [](const std::string& name, int replicas, auto forward) {
    benchmark::RegisterBenchmark(name.c_str(), forward)
        ->ArgName("batch")
        ->Arg(1)
        ->Arg(4)
        ->Arg(8)
        ->Arg(16)
        ->Threads(replicas)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const char* variant :
       {"dla34", "dla46_c", "dla60", "dla60x", "dla102", "dla102x", "dla169", "dla60_res2net"}) {
    for (const dla::Precision precision : {dla::Precision::kFp32, dla::Precision::kBf16}) {
      for (const Share share : kShares) {
        add(absl::StrCat(variant, precision == dla::Precision::kBf16 ? "/bf16" : "/fp32",
                         "/compute_threads:", share.compute_threads),
            share.replicas, [=](benchmark::State& state) {
              Forward(state, variant, precision, share.compute_threads);
            });
      }
    }
#ifdef DLA_OWN_KERNELS
    for (const Share share : kShares) {
      add(absl::StrCat(variant, "/int8/compute_threads:", share.compute_threads), share.replicas,
          [=](benchmark::State& state) { ForwardInt8(state, variant, share.compute_threads); });
    }
#endif
  }
  benchmark::RunSpecifiedBenchmarks();
}
