// Pixels to what a network reads: resize and crop, then normalise.
#include <benchmark/benchmark.h>

#include "benchmarks/micro/photos.h"
#include "model/normalize.h"
#include "model/preprocess.h"

namespace dla::bench {
namespace {

void ResizeAndCropTo224(benchmark::State& state, const Image& (*photo)(),
                        Interpolation interpolation) {
  const Image& image = photo();
  const InputSpec spec = {.interpolation = interpolation};
  for (auto _ : state) {
    auto resized = ResizeAndCrop(image, spec);
    if (!resized.ok()) state.SkipWithError("not resized");
    benchmark::DoNotOptimize(resized);
  }
}
BENCHMARK_CAPTURE(ResizeAndCropTo224, from_500x404_bilinear, SmallImage, Interpolation::kBilinear)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ResizeAndCropTo224, from_500x404_bicubic, SmallImage, Interpolation::kBicubic)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ResizeAndCropTo224, from_4000x3000_bilinear, LargeImage, Interpolation::kBilinear)
    ->Unit(benchmark::kMicrosecond);

void Normalize(benchmark::State& state, bool bf16) {
  const InputSpec spec;
  const Normalizer normalizer(spec);
  const std::vector<uint8_t> photo(static_cast<size_t>(spec.height) * spec.width * 3, 100);
  std::vector<float> wide(photo.size());
  std::vector<uint16_t> narrow(photo.size());
  for (auto _ : state) {
    if (bf16) {
      normalizer.ToBfloat16(photo.data(), narrow.data());
    } else {
      normalizer.ToFloat32(photo.data(), wide.data());
    }
    benchmark::ClobberMemory();
  }
}
BENCHMARK_CAPTURE(Normalize, to_fp32, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Normalize, to_bf16, true)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dla::bench
