#include "server/gpu_metrics.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_nvml.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr int kNotSupported = 3;
constexpr int kDriverNotLoaded = 9;
constexpr int kGpuIsLost = 15;
constexpr char kPci0[] = "0000:3b:00.0";
constexpr char kPci1[] = "0000:af:00.0";

// "name{gpu="0"}": value
using Values = std::map<std::string, double>;

Values Scrape(const GpuMetrics& metrics) {
  std::istringstream text(prometheus::TextSerializer().Serialize(metrics.Collect()));
  Values values;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("#")) continue;
    const size_t space = line.rfind(' ');
    values[line.substr(0, space)] = std::stod(line.substr(space + 1));
  }
  return values;
}

class GpuMetricsTest : public ::testing::Test {
 protected:
  GpuMetricsTest() : driver_(Open(FAKE_NVML)), old_driver_(Open(FAKE_NVML_OLD)) {
    for (FakeNvml* driver : {&driver_, &old_driver_}) {
      MutexLock lock(driver->mu);
      driver->init_fails_with = 0;
      driver->xids.clear();
      driver->gpus[kPci0] = {.used = 3'000'000'000,
                             .total = 80'000'000'000,
                             .reserved = 500'000'000,
                             .utilization_percent = 87,
                             .celsius = 54,
                             .milliwatts = 412'500,
                             .volatile_uncorrected = 2};
      driver->gpus[kPci1] = {.used = 1, .total = 2, .celsius = 30};
    }
    log_before_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
  }
  ~GpuMetricsTest() override { spdlog::set_default_logger(log_before_); }

  static FakeNvml& Open(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(library, nullptr) << dlerror();
    return *reinterpret_cast<GetFakeNvml*>(dlsym(library, "FakeNvmlState"))();
  }

  void Change(const char* pci, int FakeGpu::*field, int value) {
    MutexLock lock(driver_.mu);
    driver_.gpus[pci].*field = value;
  }

  void Hang(bool hangs) {
    MutexLock lock(driver_.mu);
    driver_.hangs = hangs;
    driver_.changed.NotifyAll();
  }

  void AwaitHangingCall() {
    MutexLock lock(driver_.mu);
    while (driver_.calls_that_hang == 0) driver_.changed.Wait(driver_.mu);
  }

  int Logged(const std::string& what) const {
    const std::string text = log_.str();
    int count = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
      ++count;
    }
    return count;
  }

  FakeNvml& driver_;
  FakeNvml& old_driver_;
  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> log_before_;
};

TEST_F(GpuMetricsTest, TellsTheValuesOfEachGpuInBaseUnitsUnderItsLabel) {
  const GpuMetrics metrics({{"0", kPci1}, {"1", kPci0}}, FAKE_NVML);
  const Values values = Scrape(metrics);
  const Values expected = {{"dla_gpu_up{gpu=\"1\"}", 1},
                           {"dla_gpu_memory_used_bytes{gpu=\"1\"}", 3e9},
                           {"dla_gpu_memory_total_bytes{gpu=\"1\"}", 8e10},
                           {"dla_gpu_utilization_ratio{gpu=\"1\"}", 0.87},
                           {"dla_gpu_temperature_celsius{gpu=\"1\"}", 54},
                           {"dla_gpu_power_watts{gpu=\"1\"}", 412.5},
                           {"dla_gpu_ecc_uncorrected_errors_total{gpu=\"1\"}", 2},
                           {"dla_gpu_xid_errors_total{gpu=\"1\"}", 0},
                           {"dla_gpu_last_xid{gpu=\"1\"}", 0}};
  for (const auto& [name, value] : expected) EXPECT_THAT(values, Contains(Pair(name, value)));
  EXPECT_THAT(values, Contains(Pair("dla_gpu_temperature_celsius{gpu=\"0\"}", 30)));
  EXPECT_EQ(values.size(), 2 * expected.size());
}

TEST_F(GpuMetricsTest, AsksAnewAtEveryScrape) {
  const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML);
  EXPECT_THAT(Scrape(metrics), Contains(Pair("dla_gpu_temperature_celsius{gpu=\"0\"}", 54)));
  {
    MutexLock lock(driver_.mu);
    driver_.gpus[kPci0].celsius = 61;
  }
  EXPECT_THAT(Scrape(metrics), Contains(Pair("dla_gpu_temperature_celsius{gpu=\"0\"}", 61)));
}

TEST_F(GpuMetricsTest, WithoutDevicesThereAreNoSeriesAndTheDriverIsNotAsked) {
  const GpuMetrics metrics({}, FAKE_NVML);
  EXPECT_THAT(metrics.Collect(), IsEmpty());
  MutexLock lock(driver_.mu);
  EXPECT_EQ(driver_.users, 0);
}

TEST_F(GpuMetricsTest, WithoutTheLibraryThereAreNoSeriesAndOneLineSaysSo) {
  const GpuMetrics metrics({{"0", kPci0}}, "/nowhere/libnvidia-ml.so.1");
  EXPECT_THAT(metrics.Collect(), IsEmpty());
  EXPECT_THAT(metrics.Collect(), IsEmpty());
  EXPECT_EQ(Logged("no metrics of GPUs: NVML: /nowhere/libnvidia-ml.so.1"), 1) << log_.str();
}

TEST_F(GpuMetricsTest, ADriverThatIsNotLoadedIsToldOnce) {
  {
    MutexLock lock(driver_.mu);
    driver_.init_fails_with = kDriverNotLoaded;
  }
  {
    const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML);
    EXPECT_THAT(metrics.Collect(), IsEmpty());
    EXPECT_THAT(metrics.Collect(), IsEmpty());
  }
  EXPECT_EQ(Logged("nvmlInit_v2: Driver Not Loaded"), 1) << log_.str();
  MutexLock lock(driver_.mu);
  EXPECT_EQ(driver_.users, 0);  // what did not begin is not ended
}

TEST_F(GpuMetricsTest, EndsItsUseOfTheDriver) {
  {
    const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML);
    EXPECT_THAT(metrics.Collect(), Not(IsEmpty()));
    MutexLock lock(driver_.mu);
    EXPECT_EQ(driver_.users, 1);
  }
  MutexLock lock(driver_.mu);
  EXPECT_EQ(driver_.users, 0);
}

TEST_F(GpuMetricsTest, LeavesOutWhatAnOldDriverDoesNotHave) {
  const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML_OLD);
  Scrape(metrics);
  const Values values = Scrape(metrics);
  // The older function counts what the driver keeps for itself as used.
  EXPECT_THAT(values, Contains(Pair("dla_gpu_memory_used_bytes{gpu=\"0\"}", 3.5e9)));
  EXPECT_THAT(values, Contains(Pair("dla_gpu_up{gpu=\"0\"}", 1)));
  EXPECT_THAT(values, Not(Contains(Key(StartsWith("dla_gpu_power_watts")))));
  EXPECT_THAT(values, Not(Contains(Key(HasSubstr("xid")))));
  EXPECT_EQ(values.size(), 6u);
  EXPECT_EQ(Logged("gpu=0 some metrics are not to be had: nvmlDeviceGetPowerUsage: Function Not "
                   "Found; nvmlEventSetWait_v2: Function Not Found"),
            1)
      << log_.str();
}

TEST_F(GpuMetricsTest, LeavesOutWhatAGpuDoesNotSupport) {
  Change(kPci0, &FakeGpu::ecc_fails_with, kNotSupported);
  const GpuMetrics metrics({{"0", kPci0}, {"1", kPci1}}, FAKE_NVML);
  const Values values = Scrape(metrics);
  EXPECT_THAT(values, Not(Contains(Key("dla_gpu_ecc_uncorrected_errors_total{gpu=\"0\"}"))));
  EXPECT_THAT(values, Contains(Key("dla_gpu_ecc_uncorrected_errors_total{gpu=\"1\"}")));
  EXPECT_THAT(values, Contains(Pair("dla_gpu_temperature_celsius{gpu=\"0\"}", 54)));
}

TEST_F(GpuMetricsTest, AGpuThatIsLostHasNothingButThatItIsDownAndTheOthersGoOn) {
  const GpuMetrics metrics({{"0", kPci0}, {"1", kPci1}}, FAKE_NVML);
  Scrape(metrics);
  Change(kPci0, &FakeGpu::fails_with, kGpuIsLost);
  for (int scrape = 0; scrape < 3; ++scrape) {
    const Values values = Scrape(metrics);
    EXPECT_THAT(values, Contains(Pair("dla_gpu_up{gpu=\"0\"}", 0)));
    EXPECT_THAT(values, Contains(Pair("dla_gpu_up{gpu=\"1\"}", 1)));
    EXPECT_THAT(values, Contains(Pair("dla_gpu_temperature_celsius{gpu=\"1\"}", 30)));
    EXPECT_EQ(values.size(), 1u + 9u);
  }
  EXPECT_EQ(Logged("gpu=0 pci=0000:3b:00.0 has no metrics: "), 1) << log_.str();
}

TEST_F(GpuMetricsTest, AGpuThatComesBackIsLookedForAndAskedAgain) {
  const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML);
  Scrape(metrics);
  Change(kPci0, &FakeGpu::fails_with, kGpuIsLost);
  EXPECT_THAT(Scrape(metrics), Not(Contains(Key(StartsWith("dla_gpu_temperature")))));
  Change(kPci0, &FakeGpu::fails_with, 0);
  EXPECT_THAT(Scrape(metrics), Contains(Pair("dla_gpu_temperature_celsius{gpu=\"0\"}", 54)));
  EXPECT_EQ(Logged("gpu=0 pci=0000:3b:00.0 answers again"), 1) << log_.str();
  MutexLock lock(driver_.mu);
  EXPECT_EQ(driver_.gpus[kPci0].searches, 2);  // the driver may know it by another handle
}

TEST_F(GpuMetricsTest, AGpuThatTheDriverDoesNotKnowIsDown) {
  const GpuMetrics metrics({{"0", "0000:ff:00.0"}}, FAKE_NVML);
  EXPECT_THAT(Scrape(metrics), testing::ElementsAre(Pair("dla_gpu_up{gpu=\"0\"}", 0)));
}

TEST_F(GpuMetricsTest, CountsCriticalErrorsOfTheGpuThatHadThem) {
  const GpuMetrics metrics({{"0", kPci0}, {"1", kPci1}}, FAKE_NVML);
  Scrape(metrics);
  {
    MutexLock lock(driver_.mu);
    EXPECT_TRUE(driver_.gpus[kPci0].watched);
    driver_.xids = {{kPci1, 48}, {kPci1, 79}};
  }
  const Values values = Scrape(metrics);
  EXPECT_THAT(values, AllOf(Contains(Pair("dla_gpu_xid_errors_total{gpu=\"0\"}", 0)),
                            Contains(Pair("dla_gpu_xid_errors_total{gpu=\"1\"}", 2)),
                            Contains(Pair("dla_gpu_last_xid{gpu=\"0\"}", 0)),
                            Contains(Pair("dla_gpu_last_xid{gpu=\"1\"}", 79))));
  EXPECT_EQ(Logged("gpu=1 the driver reports Xid 48"), 1) << log_.str();
  EXPECT_THAT(Scrape(metrics), Contains(Pair("dla_gpu_xid_errors_total{gpu=\"1\"}", 2)));
}

TEST_F(GpuMetricsTest, AScrapeWaitsForASlowDriverNoLongerThanItsPatience) {
  FakeClock clock;
  const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML, clock);
  Hang(true);
  Values values = {{"not yet", 0}};
  std::thread scrape([&] { values = Scrape(metrics); });
  clock.AwaitWaiterFor(clock.Now() + GpuMetrics::kPatience);
  AwaitHangingCall();
  clock.Advance(GpuMetrics::kPatience);
  scrape.join();
  EXPECT_THAT(values, IsEmpty());
  // The clock stands still: none of these waits.
  EXPECT_THAT(Scrape(metrics), IsEmpty());
  EXPECT_THAT(Scrape(metrics), IsEmpty());
  EXPECT_EQ(Logged("no metrics of GPUs until the driver answers"), 1) << log_.str();

  Hang(false);
  while (Scrape(metrics).empty()) std::this_thread::yield();
  EXPECT_EQ(Logged("the driver answers again"), 1) << log_.str();
}

TEST_F(GpuMetricsTest, EndsWhileTheDriverHangs) {
  FakeClock clock;
  {
    const GpuMetrics metrics({{"0", kPci0}}, FAKE_NVML, clock);
    Hang(true);
    std::thread scrape([&] { Scrape(metrics); });
    clock.AwaitWaiterFor(clock.Now() + GpuMetrics::kPatience);
    AwaitHangingCall();
    clock.Advance(GpuMetrics::kPatience);
    scrape.join();
  }
  Hang(false);
  MutexLock lock(driver_.mu);
  // The thread that was left behind still ends by itself.
  while (driver_.users > 0) driver_.changed.Wait(driver_.mu);
}

}  // namespace
}  // namespace dla::server
