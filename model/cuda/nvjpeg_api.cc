#include "model/cuda/nvjpeg_api.h"

#include <memory>
#include <mutex>

#include "model/cuda/dynamic_library.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

absl::StatusOr<const NvjpegApi*> Load(absl::Span<const std::string> folders) {
  DLA_ASSIGN_OR_RETURN(
      DynamicLibrary library,
      DynamicLibrary::Open("libnvjpeg.so.13", folders, "install PyPI's nvidia-nvjpeg"));
  auto api = std::make_unique<NvjpegApi>();
  library.Find("nvjpegCreateEx", api->create);
  library.Find("nvjpegDestroy", api->destroy);
  library.Find("nvjpegJpegStateCreate", api->state_create);
  library.Find("nvjpegJpegStateDestroy", api->state_destroy);
  library.Find("nvjpegJpegStreamCreate", api->stream_create);
  library.Find("nvjpegJpegStreamDestroy", api->stream_destroy);
  library.Find("nvjpegJpegStreamParse", api->stream_parse);
  library.Find("nvjpegJpegStreamParseHeader", api->stream_parse_header);
  library.Find("nvjpegDecodeBatchedSupported", api->batched_supported);
  library.Find("nvjpegDecodeBatchedInitialize", api->batched_initialize);
  library.Find("nvjpegDecodeBatched", api->batched_decode);
  library.Find("nvjpegDecoderCreate", api->decoder_create);
  library.Find("nvjpegDecoderDestroy", api->decoder_destroy);
  library.Find("nvjpegDecoderStateCreate", api->decoder_state_create);
  library.Find("nvjpegDecoderJpegSupported", api->decoder_supported);
  library.Find("nvjpegDecodeParamsCreate", api->params_create);
  library.Find("nvjpegDecodeParamsDestroy", api->params_destroy);
  library.Find("nvjpegDecodeParamsSetOutputFormat", api->params_set_format);
  library.Find("nvjpegBufferPinnedCreate", api->pinned_buffer_create);
  library.Find("nvjpegBufferPinnedDestroy", api->pinned_buffer_destroy);
  library.Find("nvjpegBufferDeviceCreate", api->device_buffer_create);
  library.Find("nvjpegBufferDeviceDestroy", api->device_buffer_destroy);
  library.Find("nvjpegStateAttachPinnedBuffer", api->attach_pinned_buffer);
  library.Find("nvjpegStateAttachDeviceBuffer", api->attach_device_buffer);
  library.Find("nvjpegDecodeJpegHost", api->decode_host);
  library.Find("nvjpegDecodeJpegTransferToDevice", api->decode_transfer);
  library.Find("nvjpegDecodeJpegDevice", api->decode_device);
  DLA_RETURN_IF_ERROR(library.status());
  return api.release();
}

}  // namespace

absl::StatusOr<const NvjpegApi*> LoadNvjpeg(absl::Span<const std::string> folders) {
  static std::mutex mutex;
  static const NvjpegApi* loaded = nullptr;
  const std::lock_guard lock(mutex);
  if (loaded != nullptr) return loaded;
  absl::StatusOr<const NvjpegApi*> api = Load(folders);
  if (api.ok()) loaded = *api;
  return api;
}

}  // namespace dla::cuda
