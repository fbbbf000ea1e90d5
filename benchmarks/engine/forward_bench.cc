// Photos per second of Model::Run, and the page faults that it costs.
//   dla_forward_bench [--default-malloc] [--benchmark_filter=dla34/bf16]
// VARIANT/PRECISION/compute_threads:C/batch:B/threads:R runs R replicas at once, each of which has
// B photos classified by C threads. Weights are arbitrary, for time does not depend on them.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/dla_model.h"
#include "model/memory.h"
#include "model/quantized_checkpoint.h"
#include "model/quantizer.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"

namespace {

constexpr int kSize = 224;

constexpr std::pair<dla::Precision, const char*> kPrecisions[] = {{dla::Precision::kFp32, "/fp32"},
                                                                  {dla::Precision::kBf16, "/bf16"},
                                                                  {dla::Precision::kInt8, "/int8"}};

// Replaces a float folder by the same network in int8, every layer of it.
void WriteInt8(const dla::testing::TempDir& folder) {
  const dla::ModelFiles files = dla::ReadModelFiles(folder.Path()).value();
  const auto photo = dla::MakeFormulaPhoto("photo", kSize, kSize);
  const dla::QuantizedModel quantized =
      dla::QuantizeModel(files, {dla::PhotoInput(photo.data())}, {.scan_photos = 0}).value();
  const std::string tensors = dla::SerializeSafeTensors(
      dla::QuantizedTensors(files.layout, quantized.quantization, files.checkpoint));
  // The old file is still read from: it stays where it is until nobody does.
  std::filesystem::remove(folder.Path("model.safetensors"));
  folder.Write("model.safetensors", tensors);
  std::string config = files.config_text;
  config.insert(1, "\"quantization\": {\"format\": 1}, ");
  folder.Write("config.json", config);
}

// Loads each model once, when it is first asked for. Thread-safe.
const dla::Model& Load(const std::string& variant, dla::Precision precision) {
  static std::mutex mutex;
  static auto& loaded =
      *new std::map<std::pair<std::string, dla::Precision>, std::unique_ptr<dla::Model>>;
  const std::lock_guard lock(mutex);
  std::unique_ptr<dla::Model>& model = loaded[{variant, precision}];
  if (model == nullptr) {
    const dla::testing::TempDir folder;
    dla::WriteModelFolder(folder.Path(), dla::MakeConfigJson(variant, 1000, kSize, kSize),
                          dla::MakeFormulaTensors(variant, 1000));
    if (precision == dla::Precision::kInt8) WriteInt8(folder);
    model = dla::LoadModel(folder.Path(), {.device = "cpu", .precision = precision}).value();
  }
  return *model;
}

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
  for (const char* variant : {"dla34", "dla46_c", "dla60x", "dla102", "dla169", "dla60_res2net"}) {
    for (const auto& [precision, suffix] : kPrecisions) {
      for (const Share share : {Share{1, 1}, Share{2, 1}, Share{1, 2}}) {
        const std::string name =
            absl::StrCat(variant, suffix, "/compute_threads:", share.compute_threads);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=, kind = precision](benchmark::State& state) {
                                       Forward(state, variant, kind, share.compute_threads);
                                     })
            ->ArgName("batch")
            ->Arg(1)
            ->Arg(4)
            ->Arg(8)
            ->Arg(16)
            ->Threads(share.replicas)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
