// Makes an int8 network of a float network and photos such as it will see.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/model_files.h"
#include "model/photo_input.h"
#include "model/quantization.h"

namespace dla {

struct QuantizerOptions {
  int threads = 1;

  // How many photos the scan sees, at most. 0: there is none, and all but the first layer are int8.
  int scan_photos = 16;

  // A convolution stays wide if it alone, in int8, moves the embedding further than this:
  // ||int8 - float|| / ||float||, mean over photos. Errors of several add up as squares do: so many
  // of the worst stay wide that the others together stay within three times this.
  double most_error = 0.02;

  // Called now and then, by one thread at a time: "calibrate" in photos, then "scan" in passes
  // through the network. Each begins with none done.
  std::function<void(const char* stage, int64_t done, int64_t total)> progress;
};

// What one convolution costs.
struct LayerCost {
  std::string conv;
  double error = 0;      // see most_error
  double worst = 0;      // the same of the worst photo
  bool is_int8 = false;  // else it stays wide
};

struct QuantizedModel {
  Quantization quantization;
  std::vector<LayerCost> layers;  // the scan's table, in the order of the forward pass
};

// 1. Calibrates: the float network sees all photos, and each value gets the step that
//    RangeHistogram::BestClip gives. 2. Scans: each convolution but the first is rounded alone.
// INVALID_ARGUMENT for files that are int8 already, FAILED_PRECONDITION where every convolution
// does harm, RESOURCE_EXHAUSTED when memory runs out. Takes some 200 MB for each thread.
absl::StatusOr<QuantizedModel> QuantizeModel(const ModelFiles& files,
                                             absl::Span<const PhotoInput> photos,
                                             const QuantizerOptions& options);

}  // namespace dla
