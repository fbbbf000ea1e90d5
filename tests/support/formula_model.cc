#include "tests/support/formula_model.h"

#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "model/architecture.h"
#include "model/layout.h"
#include "model/safetensors_writer.h"

namespace dla {
namespace {

// Element i of splitmix64, seeded with the FNV-1a hash of the name.
class RandomBits {
 public:
  explicit RandomBits(absl::string_view name) {
    for (const char c : name) seed_ = (seed_ ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  }

  uint64_t operator()(uint64_t i) const {
    uint64_t z = seed_ + (i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }

 private:
  uint64_t seed_ = 0xCBF29CE484222325;
};

uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Rounded to the nearest, ties to even; |value| < 65520. Not every compiler has a type for it.
uint16_t ToF16(float value) {
  const int exponent = std::max(std::ilogb(value) + 1, -13);
  const float fraction = std::nearbyint(std::ldexp(std::abs(value), 11 - exponent));
  const int bits = (exponent + 13) * 1024 + static_cast<int>(fraction);
  return static_cast<uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

template <typename T>
void Append(T value, std::vector<uint8_t>& bytes) {
  const auto* begin = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(value));
}

}  // namespace

FormulaTensor MakeFormulaTensor(absl::string_view name, const std::vector<int64_t>& shape,
                                DType dtype) {
  double low = -0.05;
  double high = 0.05;
  if (shape.size() == 4) {
    high = std::sqrt(3.0 / static_cast<double>(shape[1] * shape[2] * shape[3]));
    low = -high;
  } else if (absl::EndsWith(name, "running_var") || absl::EndsWith(name, "weight")) {
    low = 0.5;
    high = 1.5;
  }
  uint64_t count = 1;
  for (const int64_t size : shape) count *= size;

  FormulaTensor tensor{dtype, shape, {}};
  tensor.bytes.reserve(count * DTypeBytes(dtype));
  const RandomBits random(name);
  for (uint64_t i = 0; i < count; ++i) {
    const double uniform = static_cast<double>(random(i) >> 40) / (1 << 24);
    const auto value = static_cast<float>(low + (high - low) * uniform);
    switch (dtype) {
      case DType::kF32:
        Append(value, tensor.bytes);
        break;
      case DType::kF16:
        Append(ToF16(value), tensor.bytes);
        break;
      case DType::kBF16:
        Append(ToBf16(value), tensor.bytes);
        break;
      case DType::kI64:
      case DType::kI8:
        throw std::logic_error("no formula for whole numbers");
    }
  }
  return tensor;
}

FormulaTensors MakeFormulaTensors(absl::string_view architecture, int num_classes, DType dtype) {
  FormulaTensors tensors;
  for (const TensorSpec& spec :
       ListTensors(MakeLayout(*FindArchitecture(architecture).value(), num_classes))) {
    tensors[spec.name] = MakeFormulaTensor(spec.name, spec.shape, dtype);
    absl::string_view norm = spec.name;
    if (absl::ConsumeSuffix(&norm, ".running_mean")) {
      tensors[absl::StrCat(norm, ".num_batches_tracked")] = {
          DType::kI64, {}, std::vector<uint8_t>(8)};
    }
  }
  return tensors;
}

std::vector<std::vector<uint8_t>> MakeFormulaPhotos(int count, int height, int width) {
  std::vector<std::vector<uint8_t>> photos;
  for (int i = 0; i < count; ++i) {
    photos.push_back(MakeFormulaPhoto(absl::StrCat("photo", i), height, width));
  }
  return photos;
}

std::vector<uint8_t> MakeFormulaPhoto(absl::string_view name, int height, int width) {
  constexpr int kSquare = 112;
  const RandomBits squares(absl::StrCat(name, ".squares"));
  const RandomBits noise(absl::StrCat(name, ".noise"));
  const int columns = (width + kSquare - 1) / kSquare;
  std::vector<uint8_t> photo;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        const int square = (y / kSquare * columns + x / kSquare) * 3 + channel;
        photo.push_back((3 * (squares(square) >> 56) + (noise(photo.size()) >> 56)) / 4);
      }
    }
  }
  return photo;
}

std::vector<float> NormalizeFormulaPhoto(const std::vector<uint8_t>& photo, const InputSpec& spec) {
  std::vector<float> values;
  values.reserve(photo.size());
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t i = channel; i < photo.size(); i += 3) {
      values.push_back(
          static_cast<float>((photo[i] / 255.0 - spec.mean[channel]) / spec.std[channel]));
    }
  }
  return values;
}

std::string SerializeSafeTensors(const FormulaTensors& tensors) {
  TensorsToWrite views;
  for (const auto& [name, tensor] : tensors) {
    views[name] = {tensor.dtype, tensor.shape, tensor.bytes};
  }
  return SerializeSafeTensors(views);
}

std::string MakeConfigJson(absl::string_view architecture, int num_classes, int height, int width) {
  return absl::StrCat("{\"architecture\": \"", architecture, "\", \"num_classes\": ", num_classes,
                      ", \"pretrained_cfg\": {\"input_size\": [3, ", height, ", ", width,
                      "], \"crop_pct\": 0.875, \"interpolation\": \"bilinear\", "
                      "\"mean\": [0.485, 0.456, 0.406], \"std\": [0.229, 0.224, 0.225]}}");
}

void WriteFile(const std::string& path, absl::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void WriteModelFolder(const std::string& folder, absl::string_view config_json,
                      const FormulaTensors& tensors) {
  std::filesystem::create_directories(folder);
  WriteFile(folder + "/config.json", config_json);
  WriteFile(folder + "/model.safetensors", SerializeSafeTensors(tensors));
}

double RelativeL2(absl::Span<const float> a, absl::Span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace dla
