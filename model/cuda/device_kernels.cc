#include "model/cuda/device_kernels.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "model/cuda/device_status.h"
#include "model/cuda/kernel_module.h"
#include "model/cuda/nvrtc.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

class CardLauncher final : public KernelLauncher {
 public:
  CardLauncher(std::unique_ptr<KernelModule> module, std::vector<cudaKernel_t> kernels)
      : module_(std::move(module)), kernels_(std::move(kernels)) {}

  absl::Status Launch(int kernel, unsigned blocks, unsigned threads, void** args,
                      Stream stream) const override {
    // CUDA takes such a handle for a function's address.
    return DeviceStatus(cudaLaunchKernel(reinterpret_cast<const void*>(kernels_[kernel]),
                                         dim3(blocks), dim3(threads), args, 0, stream),
                        PixelKernels::KernelNames()[kernel]);
  }

 private:
  const std::unique_ptr<KernelModule> module_;
  const std::vector<cudaKernel_t> kernels_;
};

// The wheels put libnvrtc beside libcudart.
std::string FolderOfCudart() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&cudaGetDeviceCount), &info) == 0) return "";
  return std::filesystem::path(info.dli_fname).parent_path();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const PixelKernels>> MakePixelKernels(int device) {
  const OnDevice on_device(device);
  DLA_RETURN_IF_ERROR(on_device.status());
  DLA_ASSIGN_OR_RETURN(const Nvrtc nvrtc, Nvrtc::Load({FolderOfCudart()}));
  DLA_ASSIGN_OR_RETURN(
      std::unique_ptr<KernelModule> module,
      KernelModule::Compile(nvrtc, PixelKernelSource(), "pixel_kernels.cu", device));
  std::vector<cudaKernel_t> kernels;
  for (const char* name : PixelKernels::KernelNames()) {
    DLA_ASSIGN_OR_RETURN(const cudaKernel_t kernel, module->Find(name));
    kernels.push_back(kernel);
  }
  auto made = std::make_shared<const PixelKernels>(
      std::make_unique<CardLauncher>(std::move(module), std::move(kernels)));
  DLA_RETURN_IF_ERROR(made->Warm(nullptr));
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaDeviceSynchronize(), "loading kernels"));
  return made;
}

}  // namespace dla::cuda
