#include "model/model_files.h"

#include <cstdint>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "model/architecture.h"
#include "model/checkpoint.h"
#include "model/quantized_checkpoint.h"
#include "model/quantized_source.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "model/whole_file.h"

// See dla_embed_file in model/CMakeLists.txt.
extern "C" {
extern const unsigned char dla_flowers5_config[];
extern const unsigned char dla_flowers5_config_end[];
extern const unsigned char dla_flowers5_weights[];
extern const unsigned char dla_flowers5_weights_end[];
extern const unsigned char dla_flowers5_steps[];
extern const unsigned char dla_flowers5_steps_end[];
}

namespace dla {
namespace {

absl::Status Check(ModelFiles& files) {
  absl::StatusOr<const Architecture*> architecture = FindArchitecture(files.config.architecture);
  if (!architecture.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.config_name, ": ", architecture.status().message()));
  }
  const InputSpec& input = files.config.input;
  if (absl::Status status = CheckInputSize(input.height, input.width); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(files.config_name, ": ", status.message()));
  }
  files.layout = MakeLayout(**architecture, files.config.num_classes);
  if (files.config.is_int8) {
    DLA_ASSIGN_OR_RETURN(files.quantization,
                         ReadQuantization(files.layout, files.checkpoint, files.checkpoint_name));
    return absl::OkStatus();
  }
  for (const auto& [name, tensor] : files.checkpoint.tensors()) {
    if (tensor.dtype != DType::kI8) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        files.checkpoint_name, ": tensor ", Quoted(name), " is I8, but ", files.config_name,
        " has no \"quantization\"; it must be the one that dla-quantize wrote beside it"));
  }
  DLA_RETURN_IF_ERROR(CheckTensors(files.layout, files.checkpoint, files.checkpoint_name));
  return CheckValues(files.layout, files.checkpoint, files.checkpoint_name);
}

}  // namespace

absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& folder) {
  constexpr uintmax_t kMaxConfigBytes = 64 << 20;  // as ParseModelConfig takes
  ModelFiles files;
  files.config_name = folder + "/config.json";
  files.checkpoint_name = folder + "/model.safetensors";
  DLA_ASSIGN_OR_RETURN(files.config_text,
                       ReadWholeFile(files.config_name, kMaxConfigBytes,
                                     "a model folder holds config.json and model.safetensors"));
  DLA_ASSIGN_OR_RETURN(files.config, ParseModelConfig(files.config_text, files.config_name));
  if (!std::filesystem::exists(files.checkpoint_name) &&
      std::filesystem::exists(folder + "/pytorch_model.bin")) {
    return absl::NotFoundError(absl::StrCat(
        files.checkpoint_name, " does not exist, and pytorch_model.bin beside it holds code as ",
        "well as weights, so it is never read; save with timm.models.save_for_hf(..., ",
        "safe_serialization=True)"));
  }
  DLA_ASSIGN_OR_RETURN(files.checkpoint, SafeTensors::Open(files.checkpoint_name));
  DLA_RETURN_IF_ERROR(Check(files));
  return files;
}

absl::StatusOr<ModelFiles> EmbeddedModelFiles() {
  ModelFiles files;
  files.config_name = "embedded model: config.json";
  files.checkpoint_name = "embedded model: model.safetensors";
  files.config_text.assign(reinterpret_cast<const char*>(dla_flowers5_config),
                           dla_flowers5_config_end - dla_flowers5_config);
  DLA_ASSIGN_OR_RETURN(files.config, ParseModelConfig(files.config_text, files.config_name));
  const absl::Span<const uint8_t> weights(dla_flowers5_weights,
                                          dla_flowers5_weights_end - dla_flowers5_weights);
  DLA_ASSIGN_OR_RETURN(files.checkpoint, SafeTensors::Parse(weights, files.checkpoint_name));
  DLA_RETURN_IF_ERROR(Check(files));
  return files;
}

absl::StatusOr<Quantization> EmbeddedQuantization(const ModelFiles& embedded) {
  constexpr absl::string_view kName = "embedded model: int8_steps.safetensors";
  const absl::Span<const uint8_t> bytes(dla_flowers5_steps,
                                        dla_flowers5_steps_end - dla_flowers5_steps);
  DLA_ASSIGN_OR_RETURN(const SafeTensors file, SafeTensors::Parse(bytes, kName));
  DLA_ASSIGN_OR_RETURN(auto steps, ReadSteps(embedded.layout, file, kName));
  auto source = [&](const std::string& name) { return ToFloats(*embedded.checkpoint.Find(name)); };
  return RoundNetwork(embedded.layout, source, embedded.config.input, std::move(steps));
}

}  // namespace dla
