// The part of libnvjpeg.so.13 that is used here. The header of NVIDIA's is not at hand where this
// is built.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

struct CUstream_st;

namespace dla::cuda {

// Values of CUDA 13's nvjpeg.h, which later versions keep.
enum NvjpegStatus : int {
  kNvjpegSuccess = 0,
  kNvjpegBadJpeg = 3,
  kNvjpegJpegNotSupported = 4,
  kNvjpegAllocatorFailure = 5,
  kNvjpegArchMismatch = 7,
  kNvjpegImplementationNotSupported = 9,
  kNvjpegIncompleteBitstream = 10,
};
enum NvjpegBackend : int { kNvjpegGpuHybrid = 2, kNvjpegHardware = 3 };
inline constexpr int kNvjpegOutputRgbi = 5;                   // R, G, B bytes of each pixel
inline constexpr unsigned kNvjpegInterpolateChroma = 1 << 5;  // else chroma is repeated

struct NvjpegImage {
  unsigned char* channel[4];
  size_t pitch[4];
};

using NvjpegHandle = struct NvjpegOpaqueHandle*;
using NvjpegDecoder = struct NvjpegOpaqueDecoder*;
using NvjpegState = struct NvjpegOpaqueState*;
using NvjpegStream = struct NvjpegOpaqueStream*;
using NvjpegParams = struct NvjpegOpaqueParams*;
using NvjpegPinnedBuffer = struct NvjpegOpaquePinnedBuffer*;
using NvjpegDeviceBuffer = struct NvjpegOpaqueDeviceBuffer*;

// Handles, decoders and parameters may be shared by threads; the others may not.
struct NvjpegApi {
  int (*create)(int backend, void* device_allocator, void* pinned_allocator, unsigned flags,
                NvjpegHandle*);
  int (*destroy)(NvjpegHandle);
  int (*state_create)(NvjpegHandle, NvjpegState*);
  int (*state_destroy)(NvjpegState);
  int (*stream_create)(NvjpegHandle, NvjpegStream*);
  int (*stream_destroy)(NvjpegStream);
  int (*stream_parse)(NvjpegHandle, const unsigned char* data, size_t size, int save_metadata,
                      int save_stream, NvjpegStream);
  int (*stream_parse_header)(NvjpegHandle, const unsigned char* data, size_t size, NvjpegStream);

  // A batch on the card's JPEG engines. *supported becomes 0 for yes.
  int (*batched_supported)(NvjpegHandle, NvjpegStream, int* supported);
  int (*batched_initialize)(NvjpegHandle, NvjpegState, int batch, int cpu_threads, int format);
  int (*batched_decode)(NvjpegHandle, NvjpegState, const unsigned char* const* data,
                        const size_t* sizes, NvjpegImage*, CUstream_st*);

  // One photo in three steps.
  int (*decoder_create)(NvjpegHandle, int backend, NvjpegDecoder*);
  int (*decoder_destroy)(NvjpegDecoder);
  int (*decoder_state_create)(NvjpegHandle, NvjpegDecoder, NvjpegState*);
  int (*decoder_supported)(NvjpegDecoder, NvjpegStream, NvjpegParams, int* supported);
  int (*params_create)(NvjpegHandle, NvjpegParams*);
  int (*params_destroy)(NvjpegParams);
  int (*params_set_format)(NvjpegParams, int format);
  int (*pinned_buffer_create)(NvjpegHandle, void* allocator, NvjpegPinnedBuffer*);
  int (*pinned_buffer_destroy)(NvjpegPinnedBuffer);
  int (*device_buffer_create)(NvjpegHandle, void* allocator, NvjpegDeviceBuffer*);
  int (*device_buffer_destroy)(NvjpegDeviceBuffer);
  int (*attach_pinned_buffer)(NvjpegState, NvjpegPinnedBuffer);
  int (*attach_device_buffer)(NvjpegState, NvjpegDeviceBuffer);
  int (*decode_host)(NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegParams, NvjpegStream);
  int (*decode_transfer)(NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegStream, CUstream_st*);
  int (*decode_device)(NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegImage*, CUstream_st*);
};

// Loads the library once; it stays loaded. Looks where the loader does, then in `folders`.
// NOT_FOUND says where it was looked for, or what the library lacks.
absl::StatusOr<const NvjpegApi*> LoadNvjpeg(absl::Span<const std::string> folders);

}  // namespace dla::cuda
