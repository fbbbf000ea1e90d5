// JSON of the Open Inference Protocol with binary data behind it: what is read of it is a message
// that the request's own checks can take, and no larger than what came.
#include "server/infer_json.h"

#include "server/infer_request.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first byte says where the JSON ends, in 256ths.
  if (size < 1) return -1;
  const absl::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t json_bytes = body.size() * (data[0] + 1) / 256;
  inference::ModelInferRequest request;
  const auto format = dla::server::ParseInferJson(body, json_bytes, request);
  if (!format.ok()) {
    FUZZ_CHECK(!format.status().message().empty() && format.status().message().size() < 4096);
    return 0;
  }
  size_t raw = 0;
  for (const std::string& each : request.raw_input_contents()) raw += each.size();
  FUZZ_CHECK(raw == body.size() - json_bytes);
  static const dla::ModelInfo model = [] {
    dla::ModelInfo info;
    info.num_classes = 5;
    info.embedding_size = 2;
    info.input.height = info.input.width = 2;
    return info;
  }();
  (void)dla::server::ParseInferRequest(request, model, /*max_pixels=*/1 << 12, nullptr);
  return 0;
}
