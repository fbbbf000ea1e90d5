#include "benchmarks/micro/photos.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "benchmarks/micro/encode.h"
#include "model/image_codec.h"
#include "model/preprocess.h"

namespace dla::bench {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) {
    std::cerr << "cannot read " << path << "\n";
    std::exit(1);
  }
  return bytes;
}

Image Enlarge(const Image& small) {
  const InputSpec spec = {
      .height = 3000, .width = 4000, .crop_pct = 1, .interpolation = Interpolation::kBicubic};
  Image image = ResizeAndCrop(small, spec).value();
  std::minstd_rand random(1);
  std::uniform_int_distribution<int> noise(-6, 6);
  for (uint8_t& value : image.pixels) {
    value = static_cast<uint8_t>(std::clamp(value + noise(random), 0, 255));
  }
  return image;
}

}  // namespace

const std::string& SmallJpeg() {
  static const auto& bytes = *new std::string(Read(DLA_BENCH_PHOTOS "/roses_1793211631.jpg"));
  return bytes;
}

const Image& SmallImage() {
  static const auto& image = *new Image(DecodeImage(SmallJpeg(), {}).value().image);
  return image;
}

const std::string& SmallPng() {
  static const auto& bytes = *new std::string(EncodePng(SmallImage()));
  return bytes;
}

const std::string& SmallWebp() {
  static const auto& bytes = *new std::string(EncodeWebp(SmallImage(), 80));
  return bytes;
}

const Image& LargeImage() {
  static const auto& image = *new Image(Enlarge(SmallImage()));
  return image;
}

const std::string& LargeJpeg() {
  static const auto& bytes = *new std::string(EncodeJpeg(LargeImage(), 90));
  return bytes;
}

}  // namespace dla::bench
