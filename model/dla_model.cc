#include "model/dla_model.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "model/aten_network.h"
#include "model/card_models.h"
#include "model/checkpoint.h"
#include "model/graph_network.h"
#include "model/libtorch_errors.h"
#include "model/model_files.h"
#include "model/network.h"
#include "model/quantize_at_load.h"
#include "model/quantized_source.h"
#include "model/status_macros.h"
#include "model/threads.h"

#ifdef DLA_OWN_KERNELS
#include "model/cpu/cpu_network.h"
#endif

namespace dla {
namespace {

// So many photos go through the network at once for each thread. More are not faster, since their
// activations outgrow the processor's caches, and would take memory without bound.
constexpr size_t kPhotosPerThread = 4;

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

// The one place that chooses what computes an int8 network. `dtype`: of the layers that are not
// int8, and of all of them where the processor lacks instructions for int8.
std::unique_ptr<const Network> MakeInt8Network(const NetworkLayout& layout, TensorSource source,
                                               const Quantization& quantization,
                                               const InputSpec& input, at::ScalarType dtype,
                                               Engine engine, std::string& name) {
  if (engine == Engine::kReference) {
    name = "simulated-int8";
    return std::make_unique<GraphNetwork>(layout, source, input, &quantization);
  }
#ifdef DLA_OWN_KERNELS
  if (const cpu::Int8Kernels* kernels = cpu::FindInt8Kernels();
      engine == Engine::kFast && kernels != nullptr) {
    name = kernels->name();
    return std::make_unique<cpu::CpuNetwork>(layout, source, quantization, input, *kernels);
  }
#endif
  const QuantizedSource floats(layout, input, quantization, source);
  return MakeNetwork(layout, floats, input, dtype, engine, name);
}

absl::StatusOr<at::ScalarType> ChooseDType(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
    case Precision::kInt8:  // of what stays wide
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

ModelInfo MakeInfo(const ModelFiles& files) {
  ModelInfo info;
  info.architecture = files.config.architecture;
  info.num_classes = files.layout.num_classes;
  info.embedding_size = files.layout.embedding_size;
  info.parameters = CountParameters(files.layout);
  info.input = files.config.input;
  info.labels = files.config.labels;
  return info;
}

absl::StatusOr<std::unique_ptr<Model>> BuildOnCpu(const ModelFiles& files, TensorSource source,
                                                  const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(const at::ScalarType dtype, ChooseDType(options.precision));
  const Alone alone;
  const c10::InferenceMode no_gradients;
  ModelInfo info = MakeInfo(files);
  info.device = "cpu";
  std::unique_ptr<const Network> network;
  if (files.quantization) {
    info.precision = "int8";
    network = MakeInt8Network(files.layout, source, *files.quantization, info.input, dtype,
                              options.engine, info.engine);
  } else {
    info.precision = dtype == at::kBFloat16 ? "bf16" : "fp32";
    network = MakeNetwork(files.layout, source, info.input, dtype, options.engine, info.engine);
  }
  return std::make_unique<DlaModel>(std::move(info), std::move(network));
}

absl::StatusOr<std::unique_ptr<Model>> BuildModel(const ModelFiles& files, const Place& place,
                                                  const LoadOptions& options) {
  try {
    auto source = [&](const std::string& name) { return ToFloats(*files.checkpoint.Find(name)); };
    std::unique_ptr<Model> model;
    if (place.runtime == nullptr) {
      DLA_ASSIGN_OR_RETURN(model, BuildOnCpu(files, source, options));
    } else if (files.quantization) {
      // Cards compute with the weights of an int8 folder, and round no activations.
      const QuantizedSource floats(files.layout, files.config.input, *files.quantization, source);
      DLA_ASSIGN_OR_RETURN(model,
                           BuildOnCards(MakeInfo(files), files.layout, floats, place, options));
    } else {
      DLA_ASSIGN_OR_RETURN(model,
                           BuildOnCards(MakeInfo(files), files.layout, source, place, options));
    }
    DLA_RETURN_IF_ERROR(WarmUp(*model));
    return model;
  } catch (const std::exception&) {
    return StatusOfException(absl::StrCat("loading ", files.checkpoint_name));
  }
}

// Before any file is read.
absl::StatusOr<Place> CheckedPlace(const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(Place place, ChoosePlace(options));
  if (place.runtime == nullptr) DLA_RETURN_IF_ERROR(ChooseDType(options.precision).status());
  return place;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(const Place place, CheckedPlace(options));
  DLA_ASSIGN_OR_RETURN(ModelFiles files, ReadModelFiles(folder));
  const bool wants_int8 = options.precision == Precision::kInt8;
  if (files.quantization) {
    if (!wants_int8 && options.precision != Precision::kAuto) {
      return absl::InvalidArgumentError(absl::StrCat(
          files.checkpoint_name,
          " is int8 and cannot be computed in another precision; ask for int8 or auto, or serve "
          "the float folder that it was made of"));
    }
  } else if (wants_int8) {
    DLA_ASSIGN_OR_RETURN(files.quantization, QuantizeAtLoad(files, folder, options));
  }
  return BuildModel(files, place, options);
}

absl::StatusOr<std::unique_ptr<Model>> LoadEmbeddedModel(const LoadOptions& options) {
  DLA_ASSIGN_OR_RETURN(const Place place, CheckedPlace(options));
  DLA_ASSIGN_OR_RETURN(ModelFiles files, EmbeddedModelFiles());
  if (options.precision == Precision::kInt8) {
    DLA_ASSIGN_OR_RETURN(files.quantization, EmbeddedQuantization(files));
  }
  return BuildModel(files, place, options);
}

}  // namespace dla
