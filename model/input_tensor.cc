#include "model/input_tensor.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

namespace dla {

at::Tensor MakeInputTensor(absl::Span<const PhotoInput> photos, const InputSpec& input,
                           const Normalizer& normalizer, at::ScalarType dtype) {
  at::Tensor x = at::empty({static_cast<int64_t>(photos.size()), 3, input.height, input.width},
                           at::TensorOptions(dtype), at::MemoryFormat::ChannelsLast);
  const size_t size = static_cast<size_t>(input.height) * input.width * 3;
  for (size_t i = 0; i < photos.size(); ++i) {
    if (const float* values = photos[i].normalized; values != nullptr) {
      // from_blob takes no const; copy_ only reads it.
      x[static_cast<int64_t>(i)].copy_(
          at::from_blob(const_cast<float*>(values), {3, input.height, input.width}, at::kFloat));
    } else if (dtype == at::kBFloat16) {
      normalizer.ToBfloat16(photos[i].pixels,
                            static_cast<uint16_t*>(x.mutable_data_ptr()) + i * size);
    } else {
      normalizer.ToFloat32(photos[i].pixels, x.mutable_data_ptr<float>() + i * size);
    }
  }
  return x;
}

}  // namespace dla
