// config.json of a model folder.
#include "model/model_config.h"

#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = dla::ParseModelConfig(dla::fuzz::AsText(data, size), "fuzzed");
  if (!config.ok()) {
    dla::fuzz::CheckRefusal(config.status(), absl::StatusCode::kInvalidArgument);
    return 0;
  }
  FUZZ_CHECK(config->num_classes >= 1 && config->num_classes <= 1'000'000);
  FUZZ_CHECK(config->input.height >= 1 && config->input.height <= 4096);
  FUZZ_CHECK(config->input.width >= 1 && config->input.width <= 4096);
  FUZZ_CHECK(config->labels.empty() ||
             config->labels.size() == static_cast<size_t>(config->num_classes));
  return 0;
}
