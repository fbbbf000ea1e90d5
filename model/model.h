// The one class that stands between the server and LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/input_spec.h"
#include "model/photo_input.h"

namespace dla {

struct Label {
  std::string name;  // "Samoyed, Samoyede"; empty where the model has no labels
  std::string id;    // WordNet id such as "n02111889"; empty where there is none
};

struct ModelInfo {
  std::string architecture;  // timm's name of the variant: "dla34"
  std::string precision;     // "fp32", "bf16", "fp16", "int8"
  std::string device;        // "cpu", "cuda:0"
  std::string engine;        // what runs it: "amx-bf16", "avx512-fp32", "libtorch-fp32", ...
  int num_classes = 0;
  int embedding_size = 0;
  int64_t parameters = 0;  // as timm counts them: weights and biases, no running statistics
  InputSpec input;
  std::vector<Label> labels;  // num_classes of them, or none
};

// Results of one batch of n photos, row-major. Buffers are reused when the object is.
struct BatchOutput {
  std::vector<float> logits;      // n x num_classes
  std::vector<float> embeddings;  // n x embedding_size: pooled features before the classifier
};

// A loaded network. Immutable after loading, so its weights are shared by all threads that run it.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;

  // Prepares the calling thread for Run with so many threads of its own for each forward pass.
  // To be called once by every thread that calls Run; without it the process-wide default applies.
  virtual void PrepareThread(int compute_threads) const = 0;

  // Classifies photos.size() >= 1 photos of input.height x input.width pixels each, readable until
  // Run returns.
  // Resizes output's vectors to fit. On error (out of memory, device lost) output is unspecified.
  // Thread-safe.
  virtual absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const = 0;
};

}  // namespace dla
