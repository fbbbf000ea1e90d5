// The tensors of an int8 network in a checkpoint. Format: docs/model-format.md.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/graph.h"
#include "model/layout.h"
#include "model/quantization.h"
#include "model/safetensors.h"
#include "model/safetensors_writer.h"

namespace dla {

// Which convolutions are int8 is told by the dtype of "<conv>.weight". INVALID_ARGUMENT, naming the
// tensor, for one that is missing, left over, of another dtype or shape; for a scale or step that
// is not over 0 and finite; for the first convolution in int8; where no convolution is. `name`
// stands in errors. Needs memory in proportion to the file's.
absl::StatusOr<Quantization> ReadQuantization(const NetworkLayout& layout,
                                              const SafeTensors& checkpoint,
                                              absl::string_view name);

// What ReadQuantization reads, and of `source` the tensors of all other layers. Both must live as
// long as the result.
TensorsToWrite QuantizedTensors(const NetworkLayout& layout, const Quantization& quantization,
                                const SafeTensors& source);

// A file of steps alone ("<value>.step") turns float weights into int8 ones. INVALID_ARGUMENT
// unless it has exactly those that a network has of which only the first convolution is not int8.
absl::StatusOr<std::map<std::string, float>> ReadSteps(const NetworkLayout& layout,
                                                       const SafeTensors& file,
                                                       absl::string_view name);

}  // namespace dla
