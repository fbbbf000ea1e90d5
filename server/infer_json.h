// The Open Inference Protocol's JSON, with Triton's extension for binary data, from and to the
// messages that gRPC has for it.
#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "inference/grpc_service.pb.h"

namespace dla::server {

// Longer JSON is refused: parsed, it takes many times its size. Photos belong behind it, as binary
// data.
inline constexpr size_t kMaxJsonBytes = 8 << 20;
// How much memory the JSON of a request takes while it is read, in its own size.
inline constexpr size_t kJsonWeight = 16;

// How the caller wants the outputs.
struct InferJsonFormat {
  bool binary = false;                               // those that `outputs` does not name
  absl::flat_hash_map<std::string, bool> outputs{};  // binary or not, by name

  bool BinaryOf(const std::string& output) const {
    const auto found = outputs.find(output);
    return found == outputs.end() ? binary : found->second;
  }
};

// `body` begins with `json_bytes` of JSON; behind it lie the binary data of the inputs whose
// parameter binary_data_size says so. Elements of BYTES in JSON are base64, of UINT8 and FP32
// numbers, flat or nested as the shape is. Fills all but the model's name and version.
// INVALID_ARGUMENT.
absl::StatusOr<InferJsonFormat> ParseInferJson(absl::string_view body, size_t json_bytes,
                                               inference::ModelInferRequest& request);

struct InferJsonBody {
  std::string bytes;
  size_t json_bytes;  // the rest are binary data; all: there are none
};

// `response` has its contents in raw_output_contents. BYTES in JSON are text.
InferJsonBody WriteInferJson(const inference::ModelInferResponse& response,
                             const InferJsonFormat& format);

}  // namespace dla::server
