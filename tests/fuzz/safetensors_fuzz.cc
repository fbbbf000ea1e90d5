// Files of weights: the header, and that what it lets through lies within the file.
#include "model/safetensors.h"

#include "model/safetensors_header.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto header = dla::ParseSafeTensorsHeader(dla::fuzz::AsText(data, size));
  if (!header.ok()) {
    dla::fuzz::CheckRefusal(header.status(), absl::StatusCode::kInvalidArgument);
  }

  const auto file = dla::SafeTensors::Parse(absl::MakeConstSpan(data, size), "fuzzed");
  if (!file.ok()) {
    dla::fuzz::CheckRefusal(file.status(), absl::StatusCode::kInvalidArgument);
    return 0;
  }
  uint64_t sum = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    FUZZ_CHECK(file->Find(name) == &tensor);
    uint64_t bytes = dla::DTypeBytes(tensor.dtype);
    for (const int64_t side : tensor.shape) bytes *= side;
    FUZZ_CHECK(bytes == tensor.bytes.size());
    for (const uint8_t byte : tensor.bytes) sum += byte;  // read, so that a stray view shows
  }
  return sum == ~uint64_t{0} ? 1 : 0;
}
