// The photos that the benchmarks decode and resize.
#pragma once

#include <string>

#include "model/image.h"

namespace dla::bench {

// A real one: JPEG, 500 x 404, 141 KB.
const std::string& SmallJpeg();

// Its pixels, and they once more in other formats.
const Image& SmallImage();
const std::string& SmallPng();
const std::string& SmallWebp();

// As from a telephone's camera: 4000 x 3000, quality 90; the small one enlarged, with noise added.
const std::string& LargeJpeg();
const Image& LargeImage();

}  // namespace dla::bench
