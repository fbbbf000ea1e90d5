// From a ModelInferRequest of the Open Inference Protocol (KServe v2, as Triton Inference Server
// extends it) to photos for the pipeline.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference/grpc_service.pb.h"
#include "model/model.h"
#include "server/clock.h"
#include "server/photo.h"
#include "server/shared_memory.h"

namespace dla::server {

// The inputs, of which a request gives exactly one. n photos each:
//   image   BYTES [n] or [n, 1]    encoded: JPEG, PNG, WebP
//   pixels  UINT8 [n, h, w, 3]     RGB of any size, resized by the server
//   input   FP32  [n, 3, H, W]     normalised, of the network's size
inline constexpr char kImageInput[] = "image";
inline constexpr char kPixelsInput[] = "pixels";
inline constexpr char kNormalizedInput[] = "input";

enum class InferOutput { kProbabilities, kLogits, kEmbedding, kLabels, kIndices };

// In the order of the enumeration.
struct OutputDescription {
  const char* name;
  const char* datatype;
};
inline constexpr OutputDescription kOutputs[] = {{"probabilities", "FP32"},
                                                 {"logits", "FP32"},
                                                 {"embedding", "FP32"},
                                                 {"labels", "BYTES"},
                                                 {"indices", "INT32"}};

// Where in a registered region of shared memory a tensor lies.
struct SharedTensor {
  std::shared_ptr<SharedMemoryRegion> region;  // null: in the message instead
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

struct WantedOutput {
  InferOutput output;
  // More than 0: this many strings "value:index:label" a photo instead, highest value first, as
  // Triton's classification extension has it.
  int classification = 0;
  SharedTensor shared = {};
};

// Points into the request.
struct InferTask {
  std::string input;  // name of the one that is given
  std::vector<PhotoSource> photos;
  std::vector<std::string> converted;  // what photos of other representations point to
  ClassifyOptions options;
  std::vector<WantedOutput> outputs;
  int top_k = 0;  // of labels and indices
  Priority priority = Priority::kInteractive;
  Duration timeout = Duration::max();  // of the request parameter
  bool typed = false;                  // contents come in typed fields, and go so
};

constexpr int kMaxInferPhotos = 256;

// INVALID_ARGUMENT names the field and what is wrong with it. Nothing is allocated from a size that
// has not been checked against the bytes that came. `max_pixels`: of one photo. `regions`: null
// where shared memory is not allowed.
absl::StatusOr<InferTask> ParseInferRequest(const inference::ModelInferRequest& request,
                                            const ModelInfo& model, int64_t max_pixels,
                                            const SharedMemoryRegions* regions);

}  // namespace dla::server
