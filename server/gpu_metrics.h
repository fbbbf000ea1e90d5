// Memory, utilisation, temperature, power and errors of the GPUs that the server uses.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "prometheus/collectable.h"
#include "server/clock.h"
#include "server/gpu_device.h"

namespace dla::server {

// Asks the driver at every scrape, in a thread of its own, since it may take its time. A series is
// left out while the GPU or the driver does not tell its value: all of a GPU that is lost, all of
// all GPUs where there is no NVML or it does not answer in time. What is missing is logged once.
// Thread-safe.
class GpuMetrics final : public prometheus::Collectable {
 public:
  // How long a scrape waits for the driver.
  static constexpr Duration kPatience = std::chrono::seconds(1);

  // Without devices there are no series and no thread, and `library` is not opened. `clock`
  // outlives this.
  explicit GpuMetrics(const std::vector<GpuDevice>& devices,
                      const std::string& library = "libnvidia-ml.so.1",
                      Clock& clock = Clock::Real());

  // Waits kPatience for the driver; a thread that it keeps for longer is left behind.
  ~GpuMetrics() override;

  GpuMetrics(const GpuMetrics&) = delete;
  GpuMetrics& operator=(const GpuMetrics&) = delete;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  class Reader;
  struct Exchange;

  Clock& clock_;
  const std::shared_ptr<Exchange> exchange_;  // shared with the thread; null: no devices
  std::thread thread_;
};

}  // namespace dla::server
