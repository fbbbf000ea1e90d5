// Softmax and the k most probable of 1000 classes.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "model/top_k.h"

namespace dla::bench {
namespace {

void TopKOf1000(benchmark::State& state) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(1000);
  for (float& logit : logits) logit = normal(random);
  for (auto _ : state) {
    benchmark::DoNotOptimize(TopK(logits, static_cast<int>(state.range(0))));
  }
}
BENCHMARK(TopKOf1000)->ArgName("k")->Arg(1)->Arg(5)->Arg(100)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dla::bench
