#include "model/parallel_for.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "model/threads.h"

namespace dla {

void ParallelFor(int64_t count, int threads, absl::FunctionRef<void(int64_t i)> work) {
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr error;  // guarded by mutex
  auto run = [&] {
    UseThreads(1);
    const c10::InferenceMode no_gradients;
    try {
      for (int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  std::vector<std::thread> team;
  for (int64_t i = 0; i < std::min<int64_t>(count, threads); ++i) team.emplace_back(run);
  for (std::thread& thread : team) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace dla
