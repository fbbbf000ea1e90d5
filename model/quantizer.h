// Makes an int8 network of a float network and photos such as it will see.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/folded_conv.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/photo_input.h"
#include "model/quantization.h"

namespace dla {

enum class ClipMethod { kMax, kPercentile, kLeastError, kDivergence };

struct QuantizerOptions {
  ClipMethod clip = ClipMethod::kLeastError;
  double percentile = 0.9999;
  bool correct_bias = true;
  bool learn_rounding = false;
  int refine_photos = 32;
  int threads = 1;
};

Quantization Quantize(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                      absl::Span<const PhotoInput> photos, const QuantizerOptions& options);

}  // namespace dla
