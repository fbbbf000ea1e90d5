#include "model/cpu/thread_team.h"

namespace dla::cpu {
namespace {

constexpr int kSpins = 4000;  // some tens of microseconds

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` is no longer `old`.
template <typename T>
void AwaitChange(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i, Pause()) {
    if (value.load(std::memory_order_acquire) != old) return;
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  for (int part = 1; part < threads; ++part) helpers_.emplace_back([this, part] { Help(part); });
}

ThreadTeam::~ThreadTeam() {
  stop_ = true;
  ++round_;
  round_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::Run(absl::FunctionRef<void(int part)> work) {
  if (helpers_.empty()) return work(0);
  work_ = &work;
  busy_.store(static_cast<int>(helpers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  work(0);
  for (int busy; (busy = busy_.load(std::memory_order_acquire)) > 0;) AwaitChange(busy_, busy);
  work_ = nullptr;
}

void ThreadTeam::RunRanges(int64_t count,
                           absl::FunctionRef<void(int64_t begin, int64_t end)> work) {
  Run([&](int part) {
    const int64_t begin = count * part / size();
    const int64_t end = count * (part + 1) / size();
    if (begin < end) work(begin, end);
  });
}

void ThreadTeam::Help(int part) {
  for (uint32_t round = 0;; ++round) {
    AwaitChange(round_, round);
    if (stop_) return;
    (*work_)(part);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

}  // namespace dla::cpu
