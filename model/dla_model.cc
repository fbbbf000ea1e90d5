#include "model/dla_model.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iterator>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "model/architecture.h"
#include "model/aten_network.h"
#include "model/checkpoint.h"
#include "model/device.h"
#include "model/gpu/gpu_model.h"
#include "model/gpu/plugin.h"
#include "model/model_config.h"
#include "model/network.h"
#include "model/safetensors.h"
#include "model/status_macros.h"
#include "model/threads.h"
#include "model/whole_file.h"

#ifdef DLA_OWN_KERNELS
#include "model/cpu/cpu_network.h"
#endif

// See dla_embed_file in model/CMakeLists.txt.
extern "C" {
extern const unsigned char dla_flowers5_config[];
extern const unsigned char dla_flowers5_config_end[];
extern const unsigned char dla_flowers5_weights[];
extern const unsigned char dla_flowers5_weights_end[];
}

namespace dla {
namespace {

// So many photos go through the network at once for each thread. More are not faster, since their
// activations outgrow the processor's caches, and would take memory without bound.
constexpr size_t kPhotosPerThread = 4;

// What the exception being handled says, for the edge where exceptions end.
absl::Status StatusOfException(absl::string_view doing) {
  std::string text;
  try {
    throw;
  } catch (const c10::OutOfMemoryError& error) {  // of a GPU
    return absl::ResourceExhaustedError(absl::StrCat(
        "out of memory while ", doing, ": ",
        *absl::StrSplit(absl::string_view(error.what_without_backtrace()), '\n').begin()));
  } catch (const c10::Error& error) {
    text = error.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory while ", doing));
  } catch (const std::exception& error) {
    text = error.what();
  }
  const absl::string_view line = *absl::StrSplit(text, '\n').begin();
  if (absl::StrContains(line, "can't allocate memory")) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory while ", doing, ": ", line));
  }
  return absl::InternalError(absl::StrCat("LibTorch failed while ", doing, ": ", line));
}

at::ScalarType ScalarTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      return at::kFloat;
  }
}

std::vector<float> ToFloats(const TensorView& view) {
  at::Tensor tensor = at::empty(view.shape, ScalarTypeOf(view.dtype));
  std::memcpy(tensor.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  tensor = tensor.to(at::kFloat);
  const float* values = tensor.const_data_ptr<float>();
  return {values, values + tensor.numel()};
}

// The project's own kernels where the processor has what they need, else LibTorch's operations.
std::unique_ptr<const Network> MakeNetwork(const NetworkLayout& layout, TensorSource source,
                                           const InputSpec& input, at::ScalarType dtype,
                                           Engine engine, std::string& name) {
  const absl::string_view type = dtype == at::kBFloat16 ? "bf16" : "fp32";
  if (engine == Engine::kReference) {
    name = absl::StrCat("reference-", type);
    return std::make_unique<AtenNetwork>(layout, source, input, MakeReferenceBackend(dtype));
  }
  const cpu::KernelSet* kernels =
      cpu::FindKernels(dtype == at::kBFloat16 ? cpu::Element::kBf16 : cpu::Element::kFloat32);
  if (engine == Engine::kLibTorch || kernels == nullptr) {
    name = absl::StrCat("libtorch-", type);
    return std::make_unique<AtenNetwork>(layout, source, input, MakeOneDnnBackend(dtype));
  }
  name = kernels->name();
  return std::make_unique<cpu::CpuNetwork>(layout, source, input, *kernels);
}

#if defined(__x86_64__)
bool HasNativeBf16() { return __builtin_cpu_supports("avx512bf16"); }  // so has all that has AMX
// What oneDNN needs to emulate bf16.
bool CanComputeBf16() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}
#else
bool HasNativeBf16() { return false; }
bool CanComputeBf16() { return false; }
#endif

// Where a model is to run.
struct Place {
  gpu::Runtime* runtime = nullptr;  // null: on the CPU
  std::vector<int> cards;           // indices of its devices
};

absl::StatusOr<Place> ChoosePlace(const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(DeviceChoice choice, ParseDevice(options.device));
  if (choice.kind == DeviceChoice::Kind::kCpu) return Place();
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

gpu::GpuElement ChooseGpuElement(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return gpu::GpuElement::kFp32;
    case Precision::kBf16:
      return gpu::GpuElement::kBf16;
    default:
      return gpu::GpuElement::kFp16;
  }
}

absl::string_view NameOf(gpu::GpuElement element) {
  switch (element) {
    case gpu::GpuElement::kFp32:
      return "fp32";
    case gpu::GpuElement::kBf16:
      return "bf16";
    default:
      return "fp16";
  }
}

absl::StatusOr<at::ScalarType> ChooseDType(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return HasNativeBf16() ? at::kBFloat16 : at::kFloat;
    case Precision::kFp32:
      return at::kFloat;
    case Precision::kBf16:
      if (CanComputeBf16()) return at::kBFloat16;
      return absl::UnimplementedError(
          "this processor cannot compute in bf16 (no AVX-512 BW, VL and DQ); use fp32");
    case Precision::kFp16:
      return absl::UnimplementedError("fp16 is not available on the CPU; use bf16 or fp32");
  }
  return absl::InvalidArgumentError("unknown precision");
}

// Before any file is read.
absl::Status CheckPlace(const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(const Place place, ChoosePlace(options));
  return place.runtime != nullptr ? absl::OkStatus() : ChooseDType(options.precision).status();
}

// Has this thread compute alone while it lives. Packing weights takes a fraction of a second, and
// ten times as long with a second thread on a core that is busy serving.
class Alone {
 public:
  Alone() { UseThreads(1); }
  ~Alone() { UseThreads(before_); }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  const int before_ = at::get_num_threads();
};

class DlaModel final : public Model {
 public:
  DlaModel(ModelInfo info, std::unique_ptr<const Network> network)
      : info_(std::move(info)), network_(std::move(network)) {}

  const ModelInfo& info() const override { return info_; }

  void PrepareThread(int compute_threads) const override {
    UseThreads(compute_threads);
#ifdef DLA_OWN_KERNELS
    cpu::CpuNetwork::UseThreads(compute_threads);
#endif
  }

  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override {
    try {
      output.logits.resize(photos.size() * info_.num_classes);
      output.embeddings.resize(photos.size() * info_.embedding_size);
      // In passes of equal size, or nearly so.
      const size_t most = kPhotosPerThread * std::max(at::get_num_threads(), 1);
      const size_t passes = (photos.size() + most - 1) / most;
      for (size_t pass = 0; pass < passes; ++pass) {
        const size_t begin = photos.size() * pass / passes;
        const size_t end = photos.size() * (pass + 1) / passes;
        network_->Run(photos.subspan(begin, end - begin),
                      output.logits.data() + begin * info_.num_classes,
                      output.embeddings.data() + begin * info_.embedding_size);
      }
      return absl::OkStatus();
    } catch (const std::exception&) {
      return StatusOfException(absl::StrCat("running ", info_.architecture));
    }
  }

 private:
  const ModelInfo info_;
  const std::unique_ptr<const Network> network_;
};

// The first pass makes oneDNN compile its kernels, which no caller should have to wait for; and a
// model that cannot run is not loaded.
absl::Status WarmUp(const Model& model) {
  const InputSpec& spec = model.info().input;
  const std::vector<uint8_t> black(static_cast<size_t>(spec.height) * spec.width * 3);
  BatchOutput ignored;
  return model.Run({black.data()}, ignored);
}

// `info` has all but what depends on the device.
absl::StatusOr<std::unique_ptr<Model>> BuildOnCpu(ModelInfo info, const NetworkLayout& layout,
                                                  TensorSource source, at::ScalarType dtype,
                                                  Engine engine) {
  const Alone alone;
  const c10::InferenceMode no_gradients;
  info.precision = dtype == at::kBFloat16 ? "bf16" : "fp32";
  info.device = "cpu";
  std::unique_ptr<const Network> network =
      MakeNetwork(layout, source, info.input, dtype, engine, info.engine);
  return std::make_unique<DlaModel>(std::move(info), std::move(network));
}

absl::StatusOr<std::unique_ptr<Model>> BuildOnCards(ModelInfo info, const NetworkLayout& layout,
                                                    TensorSource source, const Place& place,
                                                    const LoadOptions& options) {
  const gpu::GpuElement element = ChooseGpuElement(options.precision);
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

// `config_name` and `checkpoint_name` stand in errors.
absl::StatusOr<std::unique_ptr<Model>> BuildModel(ModelConfig config, absl::string_view config_name,
                                                  const SafeTensors& checkpoint,
                                                  absl::string_view checkpoint_name,
                                                  const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(const Place place, ChoosePlace(options));
  absl::StatusOr<const Architecture*> architecture = FindArchitecture(config.architecture);
  if (!architecture.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config_name, ": ", architecture.status().message()));
  }
  if (absl::Status status = CheckInputSize(config.input.height, config.input.width); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(config_name, ": ", status.message()));
  }
  const NetworkLayout layout = MakeLayout(**architecture, config.num_classes);
  DLA_RETURN_IF_ERROR(CheckTensors(layout, checkpoint, checkpoint_name));
  DLA_RETURN_IF_ERROR(CheckValues(layout, checkpoint, checkpoint_name));

  ModelInfo info;
  info.architecture = config.architecture;
  info.num_classes = layout.num_classes;
  info.embedding_size = layout.embedding_size;
  info.parameters = CountParameters(layout);
  info.input = config.input;
  info.labels = std::move(config.labels);
  try {
    auto source = [&](const std::string& name) { return ToFloats(*checkpoint.Find(name)); };
    std::unique_ptr<Model> model;
    if (place.runtime != nullptr) {
      DLA_ASSIGN_OR_RETURN(model, BuildOnCards(std::move(info), layout, source, place, options));
    } else {
      DLA_ASSIGN_OR_RETURN(const at::ScalarType dtype, ChooseDType(options.precision));
      DLA_ASSIGN_OR_RETURN(model,
                           BuildOnCpu(std::move(info), layout, source, dtype, options.engine));
    }
    DLA_RETURN_IF_ERROR(WarmUp(*model));
    return model;
  } catch (const std::exception&) {
    return StatusOfException(absl::StrCat("loading ", checkpoint_name));
  }
}

absl::StatusOr<std::string> ReadConfig(const std::string& path) {
  constexpr uintmax_t kMaxBytes = 64 << 20;  // as ParseModelConfig takes
  return ReadWholeFile(path, kMaxBytes, "a model folder holds config.json and model.safetensors");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const LoadOptions& options) {
  DLA_RETURN_IF_ERROR(CheckPlace(options));
  const std::string config_path = folder + "/config.json";
  const std::string checkpoint_path = folder + "/model.safetensors";
  DLA_ASSIGN_OR_RETURN(const std::string text, ReadConfig(config_path));
  DLA_ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text, config_path));
  if (!std::filesystem::exists(checkpoint_path) &&
      std::filesystem::exists(folder + "/pytorch_model.bin")) {
    return absl::NotFoundError(absl::StrCat(
        checkpoint_path, " does not exist, and pytorch_model.bin beside it holds code as well as ",
        "weights, so it is never read; save with timm.models.save_for_hf(..., ",
        "safe_serialization=True)"));
  }
  DLA_ASSIGN_OR_RETURN(const SafeTensors checkpoint, SafeTensors::Open(checkpoint_path));
  return BuildModel(std::move(config), config_path, checkpoint, checkpoint_path, options);
}

absl::StatusOr<std::unique_ptr<Model>> LoadEmbeddedModel(const LoadOptions& options) {
  constexpr absl::string_view kConfigName = "embedded model: config.json";
  constexpr absl::string_view kCheckpointName = "embedded model: model.safetensors";
  DLA_RETURN_IF_ERROR(CheckPlace(options));
  const absl::string_view text(reinterpret_cast<const char*>(dla_flowers5_config),
                               dla_flowers5_config_end - dla_flowers5_config);
  DLA_ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text, kConfigName));
  const absl::Span<const uint8_t> weights(dla_flowers5_weights,
                                          dla_flowers5_weights_end - dla_flowers5_weights);
  DLA_ASSIGN_OR_RETURN(const SafeTensors checkpoint, SafeTensors::Parse(weights, kCheckpointName));
  return BuildModel(std::move(config), kConfigName, checkpoint, kCheckpointName, options);
}

}  // namespace dla
