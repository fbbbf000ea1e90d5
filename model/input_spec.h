// What a network expects at its input, as timm's pretrained_cfg describes it.
#pragma once

#include <array>

namespace dla {

enum class Interpolation { kNearest, kBilinear, kBicubic };

// timm.data.transforms_factory.transforms_imagenet_eval: how the resized photo becomes height x
// width.
enum class CropMode {
  kCenter,  // short side to floor(size / crop_pct), centre crop
  kSquash,  // both sides to floor(size / crop_pct), aspect ratio lost, centre crop
  kBorder,  // long side to floor(size / crop_pct), centre crop, missing border filled with the mean
};

struct InputSpec {
  int height = 224;
  int width = 224;
  double crop_pct = 0.875;  // (0, 1]
  Interpolation interpolation = Interpolation::kBilinear;
  CropMode crop_mode = CropMode::kCenter;
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};  // of R, G, B in 0..1
  std::array<float, 3> std = {0.229f, 0.224f, 0.225f};   // > 0
};

}  // namespace dla
