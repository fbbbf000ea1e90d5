#include "model/card_models.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/device.h"
#include "model/gpu/gpu_model.h"
#include "model/gpu/plugin.h"
#include "model/status_macros.h"

namespace dla {
namespace {

gpu::Element ChooseElement(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return gpu::Element::kFp32;
    case Precision::kBf16:
      return gpu::Element::kBf16;
    default:
      return gpu::Element::kFp16;
  }
}

absl::string_view NameOf(gpu::Element element) {
  switch (element) {
    case gpu::Element::kFp32:
      return "fp32";
    case gpu::Element::kBf16:
      return "bf16";
    default:
      return "fp16";
  }
}

}  // namespace

absl::StatusOr<Place> ChoosePlace(const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(DeviceChoice choice, ParseDevice(options.device));
  if (choice.kind == DeviceChoice::Kind::kCpu) return Place();
  if (options.precision == Precision::kInt8) {
    if (choice.kind == DeviceChoice::Kind::kAuto) return Place();
    return absl::UnimplementedError(absl::StrCat(
        "int8 is not available on device \"", options.device, "\"; use fp16 there, or device cpu"));
  }
  absl::StatusOr<gpu::Runtime*> runtime = options.runtime;
  if (options.runtime == nullptr) runtime = gpu::FindRuntime();
  if (!runtime.ok()) {
    if (choice.kind == DeviceChoice::Kind::kAuto) return Place();
    return absl::FailedPreconditionError(absl::StrCat(
        "device \"", options.device, "\" cannot be used: ", runtime.status().message()));
  }
  const int count = static_cast<int>((*runtime)->devices().size());
  for (int index : choice.indices) {
    if (index < count) continue;
    return absl::FailedPreconditionError(absl::StrCat("there is no cuda:", index, ": CUDA sees ",
                                                      count, count == 1 ? " card" : " cards",
                                                      ", counted from 0"));
  }
  if (choice.indices.empty()) {
    for (int index = 0; index < count; ++index) choice.indices.push_back(index);
  }
  return Place{*runtime, std::move(choice.indices)};
}

absl::StatusOr<std::unique_ptr<Model>> BuildOnCards(ModelInfo info, const NetworkLayout& layout,
                                                    TensorSource source, const Place& place,
                                                    const LoadOptions& options) {
  const gpu::Element element = ChooseElement(options.precision);
  info.precision = std::string(NameOf(element));
  info.device = CudaDeviceName(place.cards);
  info.engine = absl::StrCat("cuda-", info.precision);
  std::vector<std::unique_ptr<gpu::DeviceNetwork>> networks;
  for (int card : place.cards) {
    DLA_ASSIGN_OR_RETURN(networks.emplace_back(),
                         place.runtime->Load(card, layout, source, info.input, element));
  }
  gpu::GpuModel::Options gpu;
  if (options.replicas > 0) gpu.replicas = options.replicas;
  if (options.max_batch > 0) gpu.max_batch = options.max_batch;
  return gpu::GpuModel::Make(std::move(info), std::move(networks), gpu, *place.runtime);
}

}  // namespace dla
