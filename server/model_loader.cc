#include "server/model_loader.h"

#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

// Marks the status of a model that was read but failed its self-test.
constexpr char kSelfTestMark[] = "dla-serve/self-test";

absl::Status Error(const ModelFolder& folder, const absl::Status& status) {
  absl::Status error(status.code(),
                     absl::StrCat("cannot load model \"", folder.name, "\": ", status.message()));
  if (const auto mark = status.GetPayload(kSelfTestMark)) error.SetPayload(kSelfTestMark, *mark);
  return error;
}

// While others are served: reading, folding and packing weights takes the time that they leave.
constexpr int kNice = 10;

// Calls `work` on a thread of its own, of low priority, and waits for it. New threads inherit the
// priority and few processes may raise it again, so the replicas must not be started there.
template <typename Work>
void RunInBackground(Work work) {
  std::thread thread([&work] {
    (void)!nice(kNice);  // of this thread alone, on Linux
    work();
  });
  thread.join();
}

void Log(const ModelFolder& folder, const ServedModel& model, Duration loading) {
  const ModelInfo& info = model.info();
  spdlog::info(
      "loaded model={} version={} architecture={} classes={} input={}x{} precision={} device={} "
      "engine={} replicas={} threads={} max_batch={} seconds={:.2f}",
      LogValue(folder.name), folder.version, LogValue(info.architecture), info.num_classes,
      info.input.height, info.input.width, info.precision, info.device, info.engine,
      model.options().replicas, model.options().compute_threads, model.options().queue.max_batch,
      Seconds(loading));
  if (info.precision == "int8" && !absl::StrContains(info.engine, "int8")) {
    spdlog::warn(
        "model {} is int8, but for that this processor lacks AVX-512 VNNI: the same weights run in "
        "{}, which is slower",
        LogValue(folder.name), info.engine);
  }
  if (absl::StartsWith(info.engine, "libtorch")) {
    spdlog::warn(
        "model {} runs on LibTorch's operations, which are slower: for {} this processor lacks {}",
        LogValue(folder.name), info.precision,
        info.precision == "bf16" ? "AVX-512 BF16 and AMX" : "AVX-512");
  }
}

}  // namespace

ModelLoader::ModelLoader(LoadFunction load, SelfTestFunction self_test, Calibrator calibrator,
                         const Context& context)
    : load_(std::move(load)),
      self_test_(std::move(self_test)),
      calibrator_(std::move(calibrator)),
      context_(context) {}

Share ModelLoader::Choose(const ModelFolder& folder, const Model& model, bool serving) {
  if (!serving) return calibrator_.Choose(folder.name, folder.settings, model);
  if (const auto known = calibrator_.Recall(folder.name, folder.settings, model)) return *known;
  const auto before = shares_.find(folder.name);
  return before == shares_.end() ? calibrator_.Rule(folder.settings) : before->second;
}

absl::StatusOr<std::shared_ptr<ServedModel>> ModelLoader::Load(const ModelFolder& folder,
                                                               bool serving) {
  const TimePoint start = context_.clock.Now();
  absl::StatusOr<std::unique_ptr<const Model>> model = nullptr;
  auto read = [&] {
    model = load_(folder);
    if (!model.ok() || !self_test_) return;
    if (absl::Status tested = self_test_(folder, **model); !tested.ok()) {
      tested.SetPayload(kSelfTestMark, absl::Cord());
      model = std::move(tested);
    }
  };
  if (serving) {
    RunInBackground(read);
  } else {
    read();
  }
  if (!model.ok()) return Error(folder, model.status());
  const Duration loading = context_.clock.Now() - start;
  const Share share = Choose(folder, **model, serving);
  shares_[folder.name] = share;
  std::shared_ptr<ServedModel> served = context_.reaper.Share(std::make_unique<ServedModel>(
      folder.name, folder.version, *std::move(model),
      ServedModel::Options{
          .replicas = share.replicas,
          .compute_threads = share.threads,
          .queue = {.max_batch = share.max_batch,
                    .max_delay = std::chrono::microseconds(folder.settings.max_queue_delay_us)},
          .queue_capacity = folder.settings.queue_capacity,
          .budgets = {.requests = folder.settings.max_requests_in_flight,
                      .bytes = folder.settings.max_bytes_in_flight,
                      .pixels = folder.settings.max_pixels_in_flight},
          .cache = folder.settings.cache,
          .batch_timeout = std::chrono::milliseconds(folder.settings.batch_timeout_ms),
          .on_health = context_.on_health},
      context_.metrics, context_.clock));
  Log(folder, *served, loading);
  return served;
}

void ModelLoader::Report(const std::string& name, const absl::Status& outcome) {
  const bool self_test = outcome.GetPayload(kSelfTestMark).has_value();
  const LoadMetrics metrics = context_.metrics.ForLoads(name);
  metrics.failed->Set(outcome.ok() || self_test ? 0 : 1);
  metrics.self_test_failed->Set(self_test ? 1 : 0);
}

}  // namespace dla::server
