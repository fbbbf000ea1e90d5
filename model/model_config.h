// config.json of a model folder, as timm.models.save_for_hf / push_to_hf_hub writes it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/input_spec.h"
#include "model/model.h"

namespace dla {

struct ModelConfig {
  std::string architecture;  // as written; whether it is one of the variants is the caller's check
  int num_classes = 0;       // 1 to 1,000,000
  InputSpec input;  // fields that pretrained_cfg lacks keep InputSpec's defaults (timm's own)
  // One for each class. From label_names (+ label_descriptions) where present; the ImageNet-1k
  // names for a head with 1000 classes whose config names no other labels; else empty.
  std::vector<Label> labels;
};

// `name` stands in errors. INVALID_ARGUMENT names the field, its value and what would be right:
// not JSON, missing or mistyped fields, sizes out of range, a label count that is not num_classes.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view name);

}  // namespace dla
