#include "model/safetensors_writer.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace dla {
namespace {

template <typename T>
absl::Span<const uint8_t> BytesOf(const T* values, size_t count) {
  return {reinterpret_cast<const uint8_t*>(values), count * sizeof(T)};
}

}  // namespace

std::string SerializeSafeTensors(const TensorsToWrite& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  uint64_t begin = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t end = begin + tensor.bytes.size();
    header[name] = {{"dtype", std::string(DTypeName(tensor.dtype))},
                    {"shape", tensor.shape},
                    {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string file;
  file.reserve(8 + text.size() + begin);
  for (int shift = 0; shift < 64; shift += 8) {
    file.push_back(static_cast<char>(uint64_t{text.size()} >> shift & 0xff));
  }
  file += text;
  for (const auto& [name, tensor] : tensors) {
    file.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return file;
}

TensorView ViewOf(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {DType::kF32, std::move(shape), BytesOf(values.data(), values.size())};
}

TensorView ViewOf(const float& value) { return {DType::kF32, {}, BytesOf(&value, 1)}; }

TensorView ViewOf(const std::vector<int8_t>& values, std::vector<int64_t> shape) {
  return {DType::kI8, std::move(shape), BytesOf(values.data(), values.size())};
}

}  // namespace dla
