#include "model/cuda/nvjpeg_decoder.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "model/cuda/device_status.h"
#include "model/cuda/nvjpeg_lane.h"
#include "model/gpu/jpeg_decoder_pool.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

class CudaCard final : public Card {
 public:
  explicit CudaCard(int device) : device_(device) {}

  absl::Status Use() const override {
    return DeviceStatus(cudaSetDevice(device_), absl::StrCat("choosing cuda:", device_));
  }

  absl::StatusOr<void*> Allocate(size_t bytes) const override {
    void* memory = nullptr;
    DLA_RETURN_IF_ERROR(DeviceStatus(cudaMalloc(&memory, bytes), "allocating memory for a photo"));
    return memory;
  }

  void Free(void* memory) const override { (void)cudaFree(memory); }

  absl::StatusOr<Stream> MakeStream() const override {
    cudaStream_t stream = nullptr;
    DLA_RETURN_IF_ERROR(DeviceStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                                     "making a stream for decoding"));
    return stream;
  }

  void Destroy(Stream stream) const override { (void)cudaStreamDestroy(stream); }

  absl::Status CopyIn(void* card, const void* host, size_t bytes, Stream stream) const override {
    return DeviceStatus(cudaMemcpyAsync(card, host, bytes, cudaMemcpyHostToDevice, stream),
                        "copying to the device");
  }

  absl::Status CopyOut(void* host, const void* card, size_t bytes, Stream stream) const override {
    return DeviceStatus(cudaMemcpyAsync(host, card, bytes, cudaMemcpyDeviceToHost, stream),
                        "copying from the device");
  }

  absl::Status Wait(Stream stream) const override {
    // An event of its own sort: threads that wait for a stream use up a core.
    cudaEvent_t done = nullptr;
    absl::Status status = DeviceStatus(
        cudaEventCreateWithFlags(&done, cudaEventBlockingSync | cudaEventDisableTiming),
        "decoding a photo");
    if (!status.ok()) {
      // Whatever happened, nothing may still be written when this returns.
      (void)cudaStreamSynchronize(stream);
      return status;
    }
    status = DeviceStatus(cudaEventRecord(done, stream), "decoding a photo");
    if (status.ok()) status = DeviceStatus(cudaEventSynchronize(done), "decoding a photo");
    if (!status.ok()) (void)cudaStreamSynchronize(stream);
    (void)cudaEventDestroy(done);
    return status;
  }

 private:
  const int device_;
};

// The wheels put libnvjpeg beside libcudart.
std::vector<std::string> LibraryFolders() {
  std::vector<std::string> folders = {"/usr/local/cuda/lib64"};
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&cudaGetDeviceCount), &info) != 0) {
    folders.insert(folders.begin(), std::filesystem::path(info.dli_fname).parent_path());
  }
  return folders;
}

// Lanes go to the devices in turn.
absl::StatusOr<std::unique_ptr<gpu::JpegDecoder>> MakeDecoder(
    const NvjpegApi& api, NvjpegBackend backend, absl::Span<const DecodingDevice> devices,
    int threads) {
  std::vector<std::shared_ptr<const Nvjpeg>> libraries;
  for (const auto& [device, kernels] : devices) {
    DLA_ASSIGN_OR_RETURN(
        std::shared_ptr<const Nvjpeg> library,
        Nvjpeg::Create(api, backend, std::make_shared<const CudaCard>(device), kernels));
    libraries.push_back(std::move(library));
  }
  auto next = std::make_shared<std::atomic<size_t>>(0);
  return std::make_unique<gpu::JpegDecoderPool>(
      threads, [libraries = std::move(libraries), next = std::move(next)] {
        return Nvjpeg::MakeLane(libraries[next->fetch_add(1) % libraries.size()]);
      });
}

}  // namespace

absl::StatusOr<std::vector<gpu::NamedJpegDecoder>> MakeNvjpegDecoders(
    absl::Span<const DecodingDevice> devices, int threads) {
  int before = 0;
  DLA_RETURN_IF_ERROR(DeviceStatus(cudaGetDevice(&before), "asking for the current device"));
  DLA_ASSIGN_OR_RETURN(const NvjpegApi* const api, LoadNvjpeg(LibraryFolders()));
  std::vector<gpu::NamedJpegDecoder> decoders;
  absl::Status status;
  for (const auto& [backend, name] :
       {std::pair{kNvjpegHardware, "nvjpeg (engines)"}, {kNvjpegGpuHybrid, "nvjpeg (hybrid)"}}) {
    absl::StatusOr<std::unique_ptr<gpu::JpegDecoder>> decoder =
        MakeDecoder(*api, backend, devices, threads);
    if (decoder.ok()) {
      decoders.push_back({name, *std::move(decoder)});
    } else {
      status = decoder.status();
    }
  }
  (void)cudaSetDevice(before);
  if (decoders.empty()) return status;
  return decoders;
}

}  // namespace dla::cuda
