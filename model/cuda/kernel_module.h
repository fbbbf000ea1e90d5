// Kernels in machine code on a device.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/cuda/nvrtc.h"

namespace dla::cuda {

// The device of the calling thread, until the end of the scope.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  const absl::Status& status() const { return status_; }

 private:
  int before_ = -1;
  absl::Status status_;
};

// Thread-safe. Its kernels are good on each device that the code was compiled for, as long as it
// lives.
class KernelModule {
 public:
  // Compiles `source` for the device's compute capability and loads it.
  static absl::StatusOr<std::unique_ptr<KernelModule>> Compile(const Nvrtc& nvrtc,
                                                               const std::string& source,
                                                               const std::string& name, int device);
  static absl::StatusOr<std::unique_ptr<KernelModule>> Load(const KernelImage& image);
  ~KernelModule();
  KernelModule(const KernelModule&) = delete;
  KernelModule& operator=(const KernelModule&) = delete;

  // A kernel declared extern "C".
  absl::StatusOr<cudaKernel_t> Find(const std::string& name) const;

 private:
  explicit KernelModule(cudaLibrary_t library) : library_(library) {}
  const cudaLibrary_t library_;
};

}  // namespace dla::cuda
