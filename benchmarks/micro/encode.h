// Encoders, for photos that are made when a benchmark starts.
#pragma once

#include <string>

#include "model/image.h"

namespace dla::bench {

// 4:2:0, as cameras write.
std::string EncodeJpeg(const Image& image, int quality);
std::string EncodePng(const Image& image);
std::string EncodeWebp(const Image& image, float quality);

}  // namespace dla::bench
