#include "model/cuda/nvjpeg_api.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dla::cuda {
namespace {

constexpr char kLibrary[] = "libnvjpeg.so.13";

absl::StatusOr<const NvjpegApi*> Load(absl::Span<const std::string> folders) {
  std::vector<std::string> paths = {kLibrary};
  for (const std::string& folder : folders) paths.push_back(absl::StrCat(folder, "/", kLibrary));
  void* library = nullptr;
  for (const std::string& path : paths) {
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat("no ", kLibrary, " (", absl::StrJoin(paths, ", "),
                                            "); install PyPI's nvidia-nvjpeg"));
  }
  auto api = std::make_unique<NvjpegApi>();
  const char* missing = nullptr;
  const auto find = [&](const char* name, auto& function) {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) missing = name;
    function = reinterpret_cast<std::decay_t<decltype(function)>>(symbol);
  };
  find("nvjpegCreateEx", api->create);
  find("nvjpegDestroy", api->destroy);
  find("nvjpegJpegStateCreate", api->state_create);
  find("nvjpegJpegStateDestroy", api->state_destroy);
  find("nvjpegJpegStreamCreate", api->stream_create);
  find("nvjpegJpegStreamDestroy", api->stream_destroy);
  find("nvjpegJpegStreamParse", api->stream_parse);
  find("nvjpegJpegStreamParseHeader", api->stream_parse_header);
  find("nvjpegDecodeBatchedSupported", api->batched_supported);
  find("nvjpegDecodeBatchedInitialize", api->batched_initialize);
  find("nvjpegDecodeBatched", api->batched_decode);
  find("nvjpegDecoderCreate", api->decoder_create);
  find("nvjpegDecoderDestroy", api->decoder_destroy);
  find("nvjpegDecoderStateCreate", api->decoder_state_create);
  find("nvjpegDecoderJpegSupported", api->decoder_supported);
  find("nvjpegDecodeParamsCreate", api->params_create);
  find("nvjpegDecodeParamsDestroy", api->params_destroy);
  find("nvjpegDecodeParamsSetOutputFormat", api->params_set_format);
  find("nvjpegBufferPinnedCreate", api->pinned_buffer_create);
  find("nvjpegBufferPinnedDestroy", api->pinned_buffer_destroy);
  find("nvjpegBufferDeviceCreate", api->device_buffer_create);
  find("nvjpegBufferDeviceDestroy", api->device_buffer_destroy);
  find("nvjpegStateAttachPinnedBuffer", api->attach_pinned_buffer);
  find("nvjpegStateAttachDeviceBuffer", api->attach_device_buffer);
  find("nvjpegDecodeJpegHost", api->decode_host);
  find("nvjpegDecodeJpegTransferToDevice", api->decode_transfer);
  find("nvjpegDecodeJpegDevice", api->decode_device);
  if (missing != nullptr) {
    return absl::NotFoundError(absl::StrCat(kLibrary, " has no ", missing));
  }
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
