// Whether a checkpoint holds the weights of a network, and their values.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/layout.h"
#include "model/safetensors.h"

namespace dla {

// INVALID_ARGUMENT unless `checkpoint` has exactly the tensors that the layout lists, of these
// shapes, as F32, F16 or BF16. "<norm>.num_batches_tracked" may be there and is not used. Names the
// first five that do not fit. Looks at names and shapes only, so it is quick. `name` stands in
// errors.
absl::Status CheckTensors(const NetworkLayout& layout, const SafeTensors& checkpoint,
                          absl::string_view name);

// The same for a list of tensors, of a network that is called `what` in errors.
absl::Status CheckTensors(absl::Span<const TensorSpec> tensors, absl::string_view what,
                          const SafeTensors& checkpoint, absl::string_view name);

// INVALID_ARGUMENT that names the first tensor with a value that is not finite, or a running_var
// below 0: either makes every answer NaN. Reads all weights; CheckTensors has passed.
absl::Status CheckValues(const NetworkLayout& layout, const SafeTensors& checkpoint,
                         absl::string_view name);
absl::Status CheckValues(absl::Span<const TensorSpec> tensors, const SafeTensors& checkpoint,
                         absl::string_view name);

// The values of a tensor that is F32, F16 or BF16.
std::vector<float> ToFloats(const TensorView& tensor);

}  // namespace dla
