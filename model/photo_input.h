// One photo as a network takes it.
#pragma once

#include <cstdint>

namespace dla {

// Either of the two; both kinds mix in a batch. Owns nothing.
struct PhotoInput {
  PhotoInput() = default;
  PhotoInput(const uint8_t* p) : pixels(p) {}  // NOLINT: a photo's pixels are the usual input
  static PhotoInput Normalized(const float* values) {
    PhotoInput photo;
    photo.normalized = values;
    return photo;
  }

  // height x width x 3 bytes of RGB (see Image).
  const uint8_t* pixels = nullptr;

  // 3 x height x width values, (value / 255 - mean) / std, as an export of the network to ONNX
  // takes them. Any values, also such as no photo gives.
  const float* normalized = nullptr;
};

}  // namespace dla
