// Photos per second of Model::Run, and the page faults that it costs.
//   dla_forward_bench [--default-malloc] [--device=cuda:0] [--benchmark_filter=dla34/bf16]
// VARIANT/PRECISION/compute_threads:C/batch:B/threads:R runs R replicas at once, each of which has
// B photos classified by C threads. Weights are arbitrary, for time does not depend on them.
// On a GPU there are all variants, in fp16 and bf16, larger batches and one compute thread, which
// has nothing to do; photos come from the host's memory and logits go there.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "model/architecture.h"
#include "model/dla_model.h"
#include "model/memory.h"
#include "model/quantized_checkpoint.h"
#include "model/quantizer.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"

namespace {

constexpr int kSize = 224;
constexpr int kMostPhotos = 256;  // in a batch, on a GPU

// What --device says.
std::string& Device() {
  static auto& device = *new std::string("cpu");
  return device;
}

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

// Loads each model once, when it is first asked for. Thread-safe. Null where that fails.
const dla::Model* Load(const std::string& variant, dla::Precision precision) {
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
    auto result = dla::LoadModel(
        folder.Path(),
        {.device = Device(), .precision = precision, .replicas = 2, .max_batch = kMostPhotos});
    if (!result.ok()) {
      std::cerr << "dla_forward_bench: " << result.status().message() << "\n";
      return nullptr;
    }
    model = *std::move(result);
  }
  return model.get();
}

long PageFaults() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

void Forward(benchmark::State& state, const std::string& variant, dla::Precision precision,
             int compute_threads) {
  const dla::Model* const loaded = Load(variant, precision);
  if (loaded == nullptr) {
    state.SkipWithError("cannot be loaded");
    return;
  }
  const dla::Model& model = *loaded;
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

const char* NameOf(dla::Precision precision) {
  switch (precision) {
    case dla::Precision::kFp32:
      return "fp32";
    case dla::Precision::kBf16:
      return "bf16";
    case dla::Precision::kFp16:
      return "fp16";
    case dla::Precision::kInt8:
      return "int8";
    default:
      return "auto";
  }
}

// What is measured on a kind of device.
struct Share {
  int compute_threads, replicas;
};
struct Ladder {
  std::vector<std::string> variants;
  std::vector<dla::Precision> precisions;
  std::vector<Share> shares;
  std::vector<int> batches;
};

Ladder OfCpus() {
  return {.variants = {"dla34", "dla46_c", "dla60x", "dla102", "dla169", "dla60_res2net"},
          .precisions = {dla::Precision::kFp32, dla::Precision::kBf16, dla::Precision::kInt8},
          .shares = {{1, 1}, {2, 1}, {1, 2}},
          .batches = {1, 4, 8, 16}};
}

Ladder OfGpus() {
  Ladder ladder = {.precisions = {dla::Precision::kFp16, dla::Precision::kBf16},
                   .shares = {{1, 1}, {1, 2}, {1, 4}},
                   .batches = {1, 2, 4, 8, 16, 32, 64, 128, kMostPhotos}};
  for (const auto& architecture : dla::AllArchitectures())
    ladder.variants.emplace_back(architecture.name);
  return ladder;
}

void Register(const Ladder& ladder) {
  for (const std::string& variant : ladder.variants) {
    for (const dla::Precision precision : ladder.precisions) {
      for (const Share share : ladder.shares) {
        const std::string name = absl::StrCat(variant, "/", NameOf(precision),
                                              "/compute_threads:", share.compute_threads);
        auto* added = benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
          Forward(state, variant, precision, share.compute_threads);
        });
        added->ArgName("batch")
            ->Threads(share.replicas)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
        for (int batch : ladder.batches) added->Arg(batch);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  bool default_malloc = false;
  for (int i = 1; i < argc; ++i) {
    absl::string_view flag = argv[i];
    if (flag == "--default-malloc") {
      default_malloc = true;
    } else if (absl::ConsumePrefix(&flag, "--device=")) {
      Device() = std::string(flag);
    } else {
      std::cerr << "dla_forward_bench: unknown flag \"" << argv[i] << "\"\n";
      return 2;
    }
  }
  if (!default_malloc) dla::KeepFreedMemory();
  dla::UseThreads(1);
  Register(absl::StartsWith(Device(), "cuda") ? OfGpus() : OfCpus());
  benchmark::RunSpecifiedBenchmarks();
}
