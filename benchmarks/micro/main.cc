// Microbenchmarks of what stands around the forward pass.
//   dla_micro_bench [--benchmark_filter=Decode] [--benchmark_out=FILE]
#include <benchmark/benchmark.h>

#include "benchmarks/micro/load.h"
#include "model/memory.h"

int main(int argc, char** argv) {
  if (const int result = dla::bench::RunLoadIfAsked(argc, argv); result >= 0) return result;
  dla::KeepFreedMemory();  // as dla-server does
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
