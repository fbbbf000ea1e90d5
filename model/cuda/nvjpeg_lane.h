// One JPEG at a time through nvJPEG and the resizing kernels. Needs no header of CUDA: the tests
// run it on stand-ins for the card.
#pragma once

#include <cstddef>
#include <memory>

#include "model/cuda/nvjpeg_api.h"
#include "model/cuda/pixel_kernels.h"
#include "model/gpu/jpeg_decoder_pool.h"

namespace dla::cuda {

// A card's memory and streams. Errors as in model/gpu/runtime.h. Thread-safe.
class Card {
 public:
  virtual ~Card() = default;

  // The calling thread's calls of nvJPEG mean this card from now on.
  virtual absl::Status Use() const = 0;
  virtual absl::StatusOr<void*> Allocate(size_t bytes) const = 0;
  virtual void Free(void* memory) const = 0;
  virtual absl::StatusOr<Stream> MakeStream() const = 0;
  virtual void Destroy(Stream stream) const = 0;
  // These begin; the memory of the host stays as it is until Wait has returned.
  virtual absl::Status CopyIn(void* card, const void* host, size_t bytes, Stream stream) const = 0;
  virtual absl::Status CopyOut(void* host, const void* card, size_t bytes, Stream stream) const = 0;
  // Sleeps until all on the stream is done, and tells what became of it.
  virtual absl::Status Wait(Stream stream) const = 0;
};

// nvJPEG on one card, shared by its lanes, which keep it alive.
class Nvjpeg {
 public:
  // kNvjpegHardware: the card's JPEG engines; kNvjpegGpuHybrid: its ordinary processors.
  // UNIMPLEMENTED: the card has no engines. Chroma is interpolated, as libjpeg does it, where the
  // library can.
  static absl::StatusOr<std::shared_ptr<const Nvjpeg>> Create(
      const NvjpegApi& api, NvjpegBackend backend, std::shared_ptr<const Card> card,
      std::shared_ptr<const PixelKernels> kernels);
  ~Nvjpeg();
  Nvjpeg(const Nvjpeg&) = delete;
  Nvjpeg& operator=(const Nvjpeg&) = delete;

  static absl::StatusOr<std::unique_ptr<gpu::JpegLane>> MakeLane(
      std::shared_ptr<const Nvjpeg> nvjpeg);

 private:
  friend class NvjpegLane;
  Nvjpeg(const NvjpegApi& api, NvjpegBackend backend, std::shared_ptr<const Card> card,
         std::shared_ptr<const PixelKernels> kernels);

  const NvjpegApi& api_;
  const NvjpegBackend backend_;
  const std::shared_ptr<const Card> card_;
  const std::shared_ptr<const PixelKernels> kernels_;
  NvjpegHandle handle_ = nullptr;
  NvjpegDecoder decoder_ = nullptr;  // these two: of kNvjpegGpuHybrid only
  NvjpegParams params_ = nullptr;
};

}  // namespace dla::cuda
