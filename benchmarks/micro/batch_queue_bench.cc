// Photos through a model's queue while several threads push and several take.
#include <benchmark/benchmark.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "server/batch_queue.h"
#include "server/metrics.h"

namespace dla::bench {
namespace {

using server::BatchQueue;

constexpr int kPhotos = 20'000;  // in one iteration
constexpr int kInFlight = 64;    // of each producer; as many as callers wait for

// Each producer has a fixed number of photos in flight, as callers have who wait for answers.
void QueueUnderContention(benchmark::State& state) {
  const auto producers = static_cast<int>(state.range(0));
  const auto consumers = static_cast<int>(state.range(1));
  server::Metrics metrics;
  const auto model_metrics = metrics.ForModel("model", 8);
  int64_t batches = 0;
  for (auto _ : state) {
    BatchQueue queue({.max_batch = 8}, *model_metrics, server::Clock::Real());
    server::Budget places({.capacity = kInFlight * producers}, model_metrics->queue);
    std::atomic<int64_t> taken = 0;
    std::vector<std::thread> takers, pushers;
    for (int i = 0; i < consumers; ++i) {
      takers.emplace_back([&] {
        for (;;) {
          const auto batch = queue.NextBatch();
          if (batch.empty()) return;
          ++taken;
        }
      });
    }
    for (int i = 0; i < producers; ++i) {
      pushers.emplace_back([&, i] {
        for (int photo = 0; photo < kPhotos / producers; ++photo) {
          const server::Caller caller = {.client = static_cast<uint64_t>(i)};
          auto place = places.Take(caller, 1);
          while (!place.ok()) {
            std::this_thread::yield();
            place = places.Take(caller, 1);
          }
          queue.Push({.context = {.caller = caller}, .place = *std::move(place)});
        }
      });
    }
    for (std::thread& thread : pushers) thread.join();
    queue.Close();
    for (std::thread& thread : takers) thread.join();
    batches += taken;
  }
  const int pushed = kPhotos / producers * producers;
  const double photos = static_cast<double>(state.iterations()) * pushed;
  state.counters["photos/s"] = benchmark::Counter(photos, benchmark::Counter::kIsRate);
  state.counters["batch"] = photos / static_cast<double>(batches);
}
BENCHMARK(QueueUnderContention)
    ->ArgNames({"producers", "consumers"})
    ->ArgsProduct({{1, 2, 4}, {1, 2}})
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace dla::bench
