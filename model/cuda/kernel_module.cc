#include "model/cuda/kernel_module.h"

#include "absl/strings/str_cat.h"
#include "model/cuda/device_status.h"
#include "model/status_macros.h"

namespace dla::cuda {

OnDevice::OnDevice(int device) {
  status_ = DeviceStatus(cudaGetDevice(&before_), "asking for the current device");
  if (!status_.ok()) return;
  if (before_ == device) {
    before_ = -1;
  } else {
    status_ = DeviceStatus(cudaSetDevice(device), absl::StrCat("choosing device ", device));
  }
}

OnDevice::~OnDevice() {
  if (before_ >= 0) (void)cudaSetDevice(before_);
}

absl::StatusOr<std::unique_ptr<KernelModule>> KernelModule::Compile(const Nvrtc& nvrtc,
                                                                    const std::string& source,
                                                                    const std::string& name,
                                                                    int device) {
  int major = 0, minor = 0;
  DLA_RETURN_IF_ERROR(
      DeviceStatus(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
                   "asking for the compute capability"));
  DLA_RETURN_IF_ERROR(
      DeviceStatus(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
                   "asking for the compute capability"));
  DLA_ASSIGN_OR_RETURN(const KernelImage image, nvrtc.Compile(source, name, major, minor));
  const OnDevice on_device(device);
  DLA_RETURN_IF_ERROR(on_device.status());
  return Load(image);
}

absl::StatusOr<std::unique_ptr<KernelModule>> KernelModule::Load(const KernelImage& image) {
  cudaLibrary_t library = nullptr;
  DLA_RETURN_IF_ERROR(DeviceStatus(
      cudaLibraryLoadData(&library, image.bytes.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
      "loading kernels"));
  return std::unique_ptr<KernelModule>(new KernelModule(library));
}

KernelModule::~KernelModule() { (void)cudaLibraryUnload(library_); }

absl::StatusOr<cudaKernel_t> KernelModule::Find(const std::string& name) const {
  cudaKernel_t kernel = nullptr;
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaLibraryGetKernel(&kernel, library_, name.c_str()),
                                   absl::StrCat("finding the kernel ", name)));
  return kernel;
}

}  // namespace dla::cuda
