// The one class that stands between the server and LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/input_spec.h"
#include "model/photo_input.h"
#include "model/pixel_memory.h"
#include "model/top_k.h"

namespace dla {

struct Label {
  std::string name;  // "Samoyed, Samoyede"; empty where the model has no labels
  std::string id;    // WordNet id such as "n02111889"; empty where there is none
};

struct ModelInfo {
  std::string architecture;  // timm's name of the variant: "dla34"
  std::string precision;     // "fp32", "bf16", "fp16", "int8"
  std::string device;        // "cpu", "cuda:0"
  std::string engine;        // what runs it: "amx-bf16", "avx512-fp32", "cuda-fp16", ...
  int num_classes = 0;
  int embedding_size = 0;
  int64_t parameters = 0;  // as timm counts them: weights and biases, no running statistics
  InputSpec input;
  std::vector<Label> labels;  // num_classes of them, or none

  // Where a device decides it: how many batches run at the same time, and the most photos of one.
  // 0: that is for the user of the model to choose.
  int lanes = 0;
  int max_batch = 0;
};

// Seconds that a device measured itself.
struct StageTimes {
  float copy_in = 0;
  float compute = 0;
  float copy_out = 0;
};

// Results of one batch of n photos, row-major. Buffers are reused when the object is.
struct BatchOutput {
  std::vector<float> logits;      // n x num_classes
  std::vector<float> embeddings;  // n x embedding_size: pooled features before the classifier

  // What only some devices give.
  int top_k = 0;                      // 0: no `top`
  std::vector<ClassProbability> top;  // n x top_k: of each photo what TopK gives of its logits
  std::optional<StageTimes> times;    // of the last part of the batch that ran as a whole
};

// A loaded network. Immutable after loading, so its weights are shared by all threads that run it.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;

  // Where photos should lie that are to be run; null for the heap. Any others run, too.
  virtual std::shared_ptr<PixelMemory> photo_memory() const { return nullptr; }

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
