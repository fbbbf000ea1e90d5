// What NVIDIA's driver tells of its GPUs, through a library that is looked for at run time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dla::server {

// Not thread-safe. Calls may block for as long as the driver likes.
// Errors of all calls: UNAVAILABLE, the GPU fell off the bus or must be reset; UNIMPLEMENTED, this
// GPU or this driver does not tell; NOT_FOUND, no such GPU; INTERNAL, all else. They name the call.
// Source: https://docs.nvidia.com/deploy/nvml-api/
class Nvml {
 public:
  struct Gpu;  // NVML's own
  using Handle = Gpu*;

  struct Memory {  // bytes, of all processes
    uint64_t used;
    uint64_t total;
  };
  // A critical error that the driver reported, see https://docs.nvidia.com/deploy/xid-errors/
  struct Xid {
    Handle gpu;
    uint64_t number;
  };

  // `library` is a path or what the loader finds, "libnvidia-ml.so.1". NOT_FOUND: it is not there.
  static absl::StatusOr<std::unique_ptr<Nvml>> Open(const std::string& library);

  ~Nvml();

  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  absl::StatusOr<Handle> Find(const std::string& pci_bus_id);

  absl::StatusOr<Memory> ReadMemory(Handle gpu);
  absl::StatusOr<double> UtilizationPercent(Handle gpu);  // of the last sixth of a second to second
  absl::StatusOr<double> TemperatureCelsius(Handle gpu);
  absl::StatusOr<double> PowerMilliwatts(Handle gpu);
  // Since the driver was loaded.
  absl::StatusOr<double> UncorrectedEccErrors(Handle gpu);

  // From now on NextXid tells of this GPU, too.
  absl::Status WatchXids(Handle gpu);
  // Does not wait for one.
  std::optional<Xid> NextXid();

 private:
  struct Functions;

  explicit Nvml(std::unique_ptr<Functions> functions);

  // `code` is what the function `call` returned.
  absl::Status ToStatus(int code, const char* call) const;
  template <typename Function, typename... Arguments>
  absl::Status Call(const char* name, Function function, Arguments... arguments) const;

  const std::unique_ptr<Functions> functions_;
  void* events_ = nullptr;  // NVML's set of them
};

}  // namespace dla::server
