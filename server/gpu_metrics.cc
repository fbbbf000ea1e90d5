#include "server/gpu_metrics.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "prometheus/metric_family.h"
#include "server/mutex.h"
#include "server/nvml.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

enum Series { kUp, kUsed, kTotal, kUtilization, kTemperature, kPower, kEcc, kXids, kLastXid };
constexpr int kSeries = 9;

struct Family {
  const char* name;
  const char* help;
  prometheus::MetricType type = prometheus::MetricType::Gauge;
};
constexpr Family kFamilies[kSeries] = {
    {"dla_gpu_up", "1 while the driver answers for the GPU, 0 when it is lost."},
    {"dla_gpu_memory_used_bytes", "Memory of the GPU in use by all processes."},
    {"dla_gpu_memory_total_bytes", "Memory that the GPU has."},
    {"dla_gpu_utilization_ratio", "Part of the time that a kernel runs on the GPU."},
    {"dla_gpu_temperature_celsius", "Temperature of the GPU."},
    {"dla_gpu_power_watts", "Power that the GPU draws."},
    {"dla_gpu_ecc_uncorrected_errors_total",
     "Errors of the GPU's memory that could not be corrected, since the driver was loaded.",
     prometheus::MetricType::Counter},
    {"dla_gpu_xid_errors_total", "Critical errors of the GPU that the driver reported.",
     prometheus::MetricType::Counter},
    {"dla_gpu_last_xid", "Number of the last of them, 0 before the first."},
};

// Of one GPU.
using Readings = std::array<std::optional<double>, kSeries>;

}  // namespace

// Asks for the values; used by one thread.
class GpuMetrics::Reader {
 public:
  Reader(std::vector<GpuDevice> devices, std::string library)
      : library_(std::move(library)), log_(spdlog::default_logger()), gpus_(devices.size()) {
    for (size_t i = 0; i < devices.size(); ++i) gpus_[i].device = std::move(devices[i]);
  }

  // By device; all empty without NVML.
  std::vector<Readings> Read() {
    std::vector<Readings> readings(gpus_.size());
    if (!opened_) Open();
    if (nvml_ == nullptr) return readings;
    for (Gpu& gpu : gpus_) Prepare(gpu);
    CountXids();
    for (size_t i = 0; i < gpus_.size(); ++i) readings[i] = ReadOne(gpus_[i]);
    return readings;
  }

 private:
  struct Gpu {
    GpuDevice device;
    Nvml::Handle handle = nullptr;
    std::string problem;          // as logged; empty: it answers
    bool missing_logged = false;  // which values it does not tell
    absl::Status watched = absl::UnknownError("");
    double xids = 0, last_xid = 0;
  };

  void Open() {
    opened_ = true;
    absl::StatusOr<std::unique_ptr<Nvml>> nvml = Nvml::Open(library_);
    if (nvml.ok()) {
      nvml_ = *std::move(nvml);
    } else {
      log_->warn("no metrics of GPUs: {}", std::string(nvml.status().message()));
    }
  }

  void Prepare(Gpu& gpu) {
    if (gpu.handle != nullptr) return;
    const absl::StatusOr<Nvml::Handle> handle = nvml_->Find(gpu.device.pci_bus_id);
    if (!handle.ok()) return Tell(gpu, handle.status());
    gpu.handle = *handle;
    if (!gpu.watched.ok()) gpu.watched = nvml_->WatchXids(gpu.handle);
  }

  void CountXids() {
    constexpr int kMostEvents =
        1000;  // a GPU that reports without end does not keep the thread for ever
    for (int i = 0; i < kMostEvents; ++i) {
      const std::optional<Nvml::Xid> xid = nvml_->NextXid();
      if (!xid) return;
      for (Gpu& gpu : gpus_) {
        if (gpu.handle != xid->gpu) continue;
        ++gpu.xids;
        gpu.last_xid = static_cast<double>(xid->number);
        log_->error("gpu={} the driver reports Xid {}", gpu.device.label, xid->number);
      }
    }
  }

  Readings ReadOne(Gpu& gpu) {
    Readings readings;
    readings[kUp] = 0;
    if (gpu.handle == nullptr) return readings;

    absl::Status lost;
    std::vector<std::string> missing;
    auto check = [&](const absl::Status& status) {
      if (absl::IsUnavailable(status)) lost.Update(status);
      if (!status.ok()) missing.emplace_back(status.message());
      return status.ok();
    };
    auto set = [&](Series series, const absl::StatusOr<double>& value, double scale) {
      if (check(value.status())) readings[series] = *value * scale;
    };
    const absl::StatusOr<Nvml::Memory> memory = nvml_->ReadMemory(gpu.handle);
    if (check(memory.status())) {
      readings[kUsed] = static_cast<double>(memory->used);
      readings[kTotal] = static_cast<double>(memory->total);
    }
    set(kUtilization, nvml_->UtilizationPercent(gpu.handle), 1e-2);
    set(kTemperature, nvml_->TemperatureCelsius(gpu.handle), 1);
    set(kPower, nvml_->PowerMilliwatts(gpu.handle), 1e-3);
    set(kEcc, nvml_->UncorrectedEccErrors(gpu.handle), 1);
    if (check(gpu.watched)) {
      readings[kXids] = gpu.xids;
      readings[kLastXid] = gpu.last_xid;
    }
    Tell(gpu, lost);
    if (!lost.ok()) {
      gpu.handle = nullptr;  // one that is reset gets another
      Readings none;
      none[kUp] = 0;
      return none;
    }
    if (!missing.empty() && !std::exchange(gpu.missing_logged, true)) {
      log_->info("gpu={} some metrics are not to be had: {}", gpu.device.label,
                 absl::StrJoin(missing, "; "));
    }
    readings[kUp] = 1;
    return readings;
  }

  // Logs that it is lost or answers again, when that is new.
  void Tell(Gpu& gpu, const absl::Status& status) {
    const std::string problem(status.message());
    if (problem.empty() == gpu.problem.empty()) return;
    if (problem.empty()) {
      log_->info("gpu={} pci={} answers again", gpu.device.label, gpu.device.pci_bus_id);
    } else {
      log_->error("gpu={} pci={} has no metrics: {}", gpu.device.label, gpu.device.pci_bus_id,
                  problem);
    }
    gpu.problem = problem;
  }

  const std::string library_;
  const std::shared_ptr<spdlog::logger> log_;  // a thread that is left behind may outlive spdlog's
  bool opened_ = false;
  std::unique_ptr<Nvml> nvml_;
  std::vector<Gpu> gpus_;
};

// Between scrapes and the thread, which it outlives.
struct GpuMetrics::Exchange {
  Exchange(const std::vector<GpuDevice>& devices, const std::string& library)
      : reader(devices, library) {
    for (const GpuDevice& device : devices) labels.push_back(device.label);
  }

  void Work() {
    mu.Lock();
    while (true) {
      while (!wanted && !stopped) changed.Wait(mu);
      if (stopped) break;
      mu.Unlock();
      std::vector<Readings> fresh = reader.Read();
      mu.Lock();
      readings = std::move(fresh);
      ++reads;
      wanted = false;  // also for who came meanwhile
      if (std::exchange(overdue, false) && !stopped) {
        spdlog::info("the driver answers again for the metrics of GPUs");
      }
      changed.NotifyAll();
    }
    ended = true;
    changed.NotifyAll();
    mu.Unlock();
  }

  std::vector<std::string> labels;
  Reader reader;  // the thread's alone

  Mutex mu;
  CondVar changed;
  bool wanted ABSL_GUARDED_BY(mu) = false;
  bool overdue ABSL_GUARDED_BY(mu) = false;  // a scrape has given up waiting for what is under way
  bool stopped ABSL_GUARDED_BY(mu) = false;
  bool ended ABSL_GUARDED_BY(mu) = false;
  uint64_t reads ABSL_GUARDED_BY(mu) = 0;
  std::vector<Readings> readings ABSL_GUARDED_BY(mu);
};

GpuMetrics::GpuMetrics(const std::vector<GpuDevice>& devices, const std::string& library,
                       Clock& clock)
    : clock_(clock),
      exchange_(devices.empty() ? nullptr : std::make_shared<Exchange>(devices, library)) {
  if (exchange_ == nullptr) return;
  thread_ = std::thread([exchange = exchange_] { exchange->Work(); });
}

GpuMetrics::~GpuMetrics() {
  if (exchange_ == nullptr) return;
  bool ended = false;
  {
    MutexLock lock(exchange_->mu);
    exchange_->stopped = true;
    exchange_->changed.NotifyAll();
    const TimePoint end = clock_.Now() + kPatience;
    while (!exchange_->ended && !exchange_->overdue && clock_.Now() < end) {
      clock_.WaitUntil(exchange_->changed, exchange_->mu, end);
    }
    ended = exchange_->ended;
  }
  ended ? thread_.join() : thread_.detach();
}

std::vector<prometheus::MetricFamily> GpuMetrics::Collect() const {
  if (exchange_ == nullptr) return {};
  Exchange& exchange = *exchange_;
  std::vector<Readings> readings;
  {
    MutexLock lock(exchange.mu);
    const uint64_t before = exchange.reads;
    const TimePoint end = clock_.Now() + kPatience;
    exchange.wanted = true;
    exchange.changed.NotifyAll();
    while (exchange.reads == before && !exchange.overdue) {
      if (clock_.Now() >= end) {
        exchange.overdue = true;
        spdlog::warn("no metrics of GPUs until the driver answers, which takes more than {} s",
                     std::chrono::duration_cast<std::chrono::seconds>(kPatience).count());
        break;
      }
      clock_.WaitUntil(exchange.changed, exchange.mu, end);
    }
    if (exchange.reads == before) return {};
    readings = exchange.readings;
  }

  std::vector<prometheus::MetricFamily> families;
  for (int series = 0; series < kSeries; ++series) {
    const Family& about = kFamilies[series];
    prometheus::MetricFamily family = {.name = about.name, .help = about.help, .type = about.type};
    for (size_t i = 0; i < readings.size(); ++i) {
      const std::optional<double> value = readings[i][series];
      if (!value) continue;
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label.push_back({.name = "gpu", .value = exchange.labels[i]});
      (about.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
          *value;
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
  return families;
}

}  // namespace dla::server
