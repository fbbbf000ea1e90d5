// Kernels in machine code on a device.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/cuda/nvrtc.h"

namespace dla::cuda {

// OK, or INTERNAL with CUDA's name for the error and its words; RESOURCE_EXHAUSTED out of memory.
// `doing` begins the message. Takes the error off the thread, so that the next call does not
// report it again; one that a kernel left behind stays with the device for good.
absl::Status CheckCuda(cudaError_t error, absl::string_view doing);

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

// Puts a launch of `blocks` times `threads` threads on `stream`. Arguments must have exactly the
// types of the kernel's parameters. May be captured into a graph, once the kernel has been launched
// outside of one: the first launch on a device may have to load it.
template <typename... Args>
absl::Status Launch(cudaKernel_t kernel, unsigned blocks, unsigned threads, cudaStream_t stream,
                    Args... args) {
  void* pointers[] = {&args...};
  // CUDA takes such a handle for a function's address.
  return CheckCuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(blocks, 1, 1),
                                    dim3(threads, 1, 1), pointers, 0, stream),
                   "launching a kernel");
}

}  // namespace dla::cuda
