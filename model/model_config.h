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
  // Fields that pretrained_cfg lacks get timm's defaults: InputSpec's, but kBicubic. Sides are 1 to
  // 4096; whether the network takes them is the caller's check. As in timm, test_* is not used.
  InputSpec input;
  // One for each class, or none. From label_names where present, with the text from
  // label_descriptions as name and the label name as id where that is given, too; the ImageNet-1k
  // names for a head with 1000 classes whose config names no other labels. label_names given by
  // index (an object) may leave gaps: those have an empty name.
  std::vector<Label> labels;
  // Whether model.safetensors holds int8 tensors ("quantization", docs/model-format.md).
  bool is_int8 = false;
};

// `name` stands in errors. INVALID_ARGUMENT names the field, its value and what would be right:
// not JSON, missing or mistyped fields, sizes out of range, a label count that is not num_classes,
// model_args or a global_pool that change the network that `architecture` names, a "quantization"
// of a newer format. Other fields are
// passed over. Also reads the older layouts that timm 1.0.31 reads. Thread-safe.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view name);

}  // namespace dla
