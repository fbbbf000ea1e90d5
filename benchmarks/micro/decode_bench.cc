// Encoded bytes to pixels, and the whole way to what a network reads.
#include <benchmark/benchmark.h>

#include "benchmarks/micro/photos.h"
#include "model/image_codec.h"
#include "model/preprocess.h"

namespace dla::bench {
namespace {

void Decode(benchmark::State& state, const std::string& (*photo)(), int min_short_side) {
  const std::string& bytes = photo();
  for (auto _ : state) {
    auto decoded = DecodeImage(bytes, {.min_short_side = min_short_side});
    if (!decoded.ok()) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(decoded);
  }
  state.counters["KB"] = static_cast<double>(bytes.size()) / 1000;
}
BENCHMARK_CAPTURE(Decode, jpeg_500x404, SmallJpeg, 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Decode, png_500x404, SmallPng, 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Decode, webp_500x404, SmallWebp, 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Decode, jpeg_4000x3000, LargeJpeg, 0)->Unit(benchmark::kMicrosecond);
// The short side stays at twice the resize target of 256.
BENCHMARK_CAPTURE(Decode, jpeg_4000x3000_reduced, LargeJpeg, 512)->Unit(benchmark::kMicrosecond);

// A camera's: the frame header stands behind 64 KB of EXIF and its thumbnail.
const std::string& JpegWithExif() {
  static const auto& bytes = *new std::string([] {
    std::string jpeg = SmallJpeg();
    jpeg.insert(2, "\xff\xe1\xff\xff" + std::string(65'533, 'e'));
    return jpeg;
  }());
  return bytes;
}

void ReadSize(benchmark::State& state, const std::string& (*photo)()) {
  const std::string& bytes = photo();
  for (auto _ : state) {
    auto size = ReadImageSize(bytes);
    if (!size.ok()) state.SkipWithError("no size");
    benchmark::DoNotOptimize(size);
  }
}
BENCHMARK_CAPTURE(ReadSize, jpeg, SmallJpeg);
BENCHMARK_CAPTURE(ReadSize, jpeg_exif_64kb, JpegWithExif);
BENCHMARK_CAPTURE(ReadSize, png, SmallPng);
BENCHMARK_CAPTURE(ReadSize, webp, SmallWebp);

void Load(benchmark::State& state, const std::string& (*photo)()) {
  const std::string& bytes = photo();
  for (auto _ : state) {
    auto image = LoadImage(bytes, InputSpec(), {});
    if (!image.ok()) state.SkipWithError("not loaded");
    benchmark::DoNotOptimize(image);
  }
}
BENCHMARK_CAPTURE(Load, jpeg_500x404, SmallJpeg)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Load, png_500x404, SmallPng)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Load, webp_500x404, SmallWebp)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Load, jpeg_4000x3000, LargeJpeg)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dla::bench
