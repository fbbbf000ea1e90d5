// Networks whose weights, and photos whose pixels, come from a formula: the same in every language,
// so that tests/golden/make_network_golden.py asks timm about the very same ones.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/input_spec.h"
#include "model/safetensors.h"

namespace dla {

struct FormulaTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};
using FormulaTensors = std::map<std::string, FormulaTensor>;

// Everything that timm's state_dict of this network holds. dtype: of all but the counters, F16 and
// BF16 rounded to nearest even.
FormulaTensors MakeFormulaTensors(absl::string_view architecture, int num_classes,
                                  DType dtype = DType::kF32);

FormulaTensor MakeFormulaTensor(absl::string_view name, const std::vector<int64_t>& shape,
                                DType dtype = DType::kF32);

// height x width x 3 bytes of RGB.
std::vector<uint8_t> MakeFormulaPhoto(absl::string_view name, int height, int width);
// "photo0", "photo1", ...
std::vector<std::vector<uint8_t>> MakeFormulaPhotos(int count, int height, int width);

// The same photo as callers that normalise themselves send it: 3 x height x width values.
std::vector<float> NormalizeFormulaPhoto(const std::vector<uint8_t>& photo, const InputSpec& spec);

// A file of the safetensors format.
std::string SerializeSafeTensors(const FormulaTensors& tensors);

// A config.json as timm writes it.
std::string MakeConfigJson(absl::string_view architecture, int num_classes, int height, int width);

// Writes config.json and model.safetensors.
void WriteModelFolder(const std::string& folder, absl::string_view config_json,
                      const FormulaTensors& tensors);
void WriteFile(const std::string& path, absl::string_view content);

// ||a - b|| / ||b||, in double.
double RelativeL2(absl::Span<const float> a, absl::Span<const float> b);

}  // namespace dla
