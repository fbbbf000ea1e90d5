// Threads that compute one photo, or batch, together.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace dla::cpu {

// The thread that makes a team is part of it, and the only one that may use it. Between two pieces
// of work the others wait actively for some microseconds, as the steps of a network follow each
// other that fast, and then sleep until they are called.
class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);  // >= 1
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls work(0) to work(size() - 1), each in another thread, and returns when all have returned.
  // `work` must not throw.
  void Run(absl::FunctionRef<void(int part)> work);

  // Splits [0, count) evenly among the threads.
  void RunRanges(int64_t count, absl::FunctionRef<void(int64_t begin, int64_t end)> work);

 private:
  void Help(int part);

  const absl::FunctionRef<void(int part)>* work_ = nullptr;  // written before round_
  std::atomic<uint32_t> round_ = 0;                          // counts the calls of Run
  std::atomic<int> busy_ = 0;  // helpers that have not finished this round
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> helpers_;
};

}  // namespace dla::cpu
