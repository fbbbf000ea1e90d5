// What libdla_cuda.so exports: see model/gpu/plugin.h.
#include <ATen/Context.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/cuda/cuda_network.h"
#include "model/cuda/device_kernels.h"
#include "model/cuda/device_status.h"
#include "model/cuda/nvjpeg_decoder.h"
#include "model/gpu/plugin.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

at::ScalarType ScalarTypeOf(gpu::Element element) {
  switch (element) {
    case gpu::Element::kFp16:
      return at::kHalf;
    case gpu::Element::kBf16:
      return at::kBFloat16;
    case gpu::Element::kFp32:
      return at::kFloat;
  }
  return at::kHalf;
}

absl::StatusOr<gpu::DeviceInfo> Describe(int index) {
  cudaDeviceProp properties;
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaGetDeviceProperties(&properties, index),
                                   absl::StrCat("asking about cuda:", index)));
  char bus_id[32] = "";
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), index),
                                   absl::StrCat("asking about cuda:", index)));
  return gpu::DeviceInfo{.index = index,
                         .name = properties.name,
                         .pci_bus_id = bus_id,
                         .capability = absl::StrCat(properties.major, ".", properties.minor),
                         .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)};
}

absl::Status NoCards(cudaError_t error) {
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaGetLastError();
  auto version = [](int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); };
  if (driver == 0) {
    return absl::FailedPreconditionError("there is no NVIDIA driver (libcuda.so.1)");
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::FailedPreconditionError(
        absl::StrCat("the NVIDIA driver is too old: it supports CUDA ", version(driver),
                     " and this program needs ", version(CUDART_VERSION), "; update the driver"));
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) {
    return absl::FailedPreconditionError("there is no NVIDIA card, or none that may be used");
  }
  return absl::FailedPreconditionError(DeviceStatus(error, "looking for cards").message());
}

class CudaRuntime final : public gpu::Runtime {
 public:
  explicit CudaRuntime(std::vector<gpu::DeviceInfo> devices)
      : devices_(std::move(devices)), kernels_(devices_.size()) {}

  const std::vector<gpu::DeviceInfo>& devices() const override { return devices_; }

  absl::StatusOr<std::unique_ptr<gpu::DeviceNetwork>> Load(int device, const NetworkLayout& layout,
                                                           TensorSource source,
                                                           const InputSpec& input,
                                                           gpu::Element element) override {
    DLA_ASSIGN_OR_RETURN(std::shared_ptr<const PixelKernels> kernels, KernelsOf(device));
    std::unique_ptr<gpu::DeviceNetwork> network;
    DLA_RETURN_IF_ERROR(Guarded("loading weights", nullptr, [&] {
      network = std::make_unique<CudaNetwork>(devices_[device], layout, source, input,
                                              ScalarTypeOf(element), std::move(kernels));
      return absl::OkStatus();
    }));
    return network;
  }

  absl::StatusOr<std::vector<gpu::NamedJpegDecoder>> MakeJpegDecoders(
      const std::vector<int>& devices, int threads) override {
    std::vector<DecodingDevice> with_kernels;
    for (const int device : devices) {
      DLA_ASSIGN_OR_RETURN(std::shared_ptr<const PixelKernels> kernels, KernelsOf(device));
      with_kernels.emplace_back(devices_[device].index, std::move(kernels));
    }
    return MakeNvjpegDecoders(with_kernels, threads);
  }

  absl::StatusOr<std::shared_ptr<void>> AllocatePinned(size_t bytes) override {
    void* memory = nullptr;
    DLA_RETURN_IF_ERROR(DeviceStatus(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable),
                                     "allocating pinned memory"));
    return std::shared_ptr<void>(memory, [](void* pinned) { (void)cudaFreeHost(pinned); });
  }

 private:
  absl::StatusOr<std::shared_ptr<const PixelKernels>> KernelsOf(int device);

  const std::vector<gpu::DeviceInfo> devices_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const PixelKernels>> kernels_;  // guarded by mutex_: of each device
};

absl::StatusOr<std::shared_ptr<const PixelKernels>> CudaRuntime::KernelsOf(int device) {
  const std::lock_guard lock(mutex_);
  if (kernels_[device] == nullptr) {
    DLA_ASSIGN_OR_RETURN(kernels_[device], MakePixelKernels(devices_[device].index));
  }
  return kernels_[device];
}

absl::StatusOr<gpu::Runtime*> MakeRuntime() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) return NoCards(error);
  std::vector<gpu::DeviceInfo> devices;
  for (int index = 0; index < count; ++index) {
    DLA_ASSIGN_OR_RETURN(gpu::DeviceInfo device, Describe(index));
    devices.push_back(std::move(device));
  }
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  // What fp32 is asked for is fp32; elsewhere cuDNN tries what it has and keeps the fastest.
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setBenchmarkCuDNN(true);
  return new CudaRuntime(std::move(devices));
}

}  // namespace
}  // namespace dla::cuda

extern "C" __attribute__((visibility("default"))) dla::gpu::Runtime* dla_gpu_runtime(
    const char* version, absl::Status* why) {
  if (std::string(version) != DLA_VERSION) {
    *why = absl::FailedPreconditionError(absl::StrCat("libdla_cuda.so is of version ", DLA_VERSION,
                                                      " and the program of ", version));
    return nullptr;
  }
  dla::gpu::Runtime* runtime = nullptr;
  *why = dla::cuda::Guarded("starting CUDA", nullptr, [&]() -> absl::Status {
    DLA_ASSIGN_OR_RETURN(runtime, dla::cuda::MakeRuntime());
    return absl::OkStatus();
  });
  return runtime;
}
