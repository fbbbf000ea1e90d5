// System shared memory that callers register under a name, so that photos and results need not
// travel through gRPC (the Open Inference Protocol's SystemSharedMemory* calls).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/mutex.h"

namespace dla::server {

// What a caller registers. Bytes.
struct SharedMemoryRegionInfo {
  std::string name;
  std::string key;  // as for shm_open, such as "/input"
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

// One registered region, open for as long as somebody holds it. Thread-safe.
//
// Bytes are copied by pread and pwrite, never through a mapping: the caller may shrink its memory
// at any time, and a mapping would then kill the server with SIGBUS where these calls return an
// error.
class SharedMemoryRegion {
 public:
  // Takes over `fd`. Reads of more than `max_read_bytes` are refused.
  SharedMemoryRegion(SharedMemoryRegionInfo info, int fd, uint64_t max_read_bytes);
  ~SharedMemoryRegion();

  SharedMemoryRegion(const SharedMemoryRegion&) = delete;
  SharedMemoryRegion& operator=(const SharedMemoryRegion&) = delete;

  const SharedMemoryRegionInfo& info() const { return info_; }

  // `offset` counts from the region's start. INVALID_ARGUMENT when the bytes are not all inside the
  // region, or no longer inside the shared memory.
  absl::StatusOr<std::string> Read(uint64_t offset, uint64_t byte_size) const;
  absl::Status Write(uint64_t offset, absl::string_view bytes) const;

 private:
  absl::Status CheckInside(uint64_t offset, uint64_t byte_size) const;

  const SharedMemoryRegionInfo info_;
  const int fd_;
  const uint64_t max_read_bytes_;
};

// The regions by name. Thread-safe.
class SharedMemoryRegions {
 public:
  struct Limits {
    size_t regions = 256;  // each is an open file
    uint64_t read_bytes = uint64_t{1} << 30;
  };

  SharedMemoryRegions() : SharedMemoryRegions(Limits()) {}
  explicit SharedMemoryRegions(const Limits& limits) : limits_(limits) {}

  // ALREADY_EXISTS when the name is taken, NOT_FOUND when there is no such shared memory,
  // INVALID_ARGUMENT when the region is empty or not inside it, PERMISSION_DENIED when the server
  // may not open it, RESOURCE_EXHAUSTED when there are too many regions.
  absl::Status Register(const SharedMemoryRegionInfo& info);

  // Forgets a region, of which there may be none; an empty name: all. Requests that hold it go on.
  void Unregister(absl::string_view name);

  // The region of that name, an empty name: all by name. NOT_FOUND.
  absl::StatusOr<std::vector<SharedMemoryRegionInfo>> Status(absl::string_view name) const;

  // NOT_FOUND.
  absl::StatusOr<std::shared_ptr<SharedMemoryRegion>> Find(absl::string_view name) const;

 private:
  absl::Status CheckFree(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Limits limits_;
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<SharedMemoryRegion>, std::less<>> regions_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
