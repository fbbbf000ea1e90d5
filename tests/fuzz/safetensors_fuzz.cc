// Files of weights: the header, that what it lets through lies within the file, and the tensors of
// an int8 network.
#include "model/safetensors.h"

#include "model/architecture.h"
#include "model/quantized_checkpoint.h"
#include "model/safetensors_header.h"
#include "tests/fuzz/check.h"

namespace {

const dla::NetworkLayout& SmallLayout() {
  static const auto& layout =
      *new dla::NetworkLayout(dla::MakeLayout(**dla::FindArchitecture("dla46_c"), 5));
  return layout;
}

void ReadInt8(const dla::SafeTensors& file) {
  const auto steps = dla::ReadSteps(SmallLayout(), file, "fuzzed");
  if (!steps.ok()) {
    dla::fuzz::CheckRefusal(steps.status(), absl::StatusCode::kInvalidArgument);
  } else {
    for (const auto& [value, step] : *steps) FUZZ_CHECK(step >= 1e-15F && step <= 1e15F);
  }
  const auto int8 = dla::ReadQuantization(SmallLayout(), file, "fuzzed");
  if (!int8.ok()) {
    dla::fuzz::CheckRefusal(int8.status(), absl::StatusCode::kInvalidArgument);
  } else {
    for (const auto& [name, conv] : int8->convs) FUZZ_CHECK(conv.scale.size() == conv.bias.size());
  }
}

}  // namespace

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
  ReadInt8(*file);
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
