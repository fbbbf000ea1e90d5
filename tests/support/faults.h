// Ways in which a FakeModel goes wrong.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "server/mutex.h"
#include "tests/support/fake_model.h"

namespace dla {

// A batch that holds a photo with this first byte fails with this error.
inline FakeModel::Fault FailOn(int mark, absl::Status error) {
  return [mark, error](const std::vector<int>& marks) {
    return std::count(marks.begin(), marks.end(), mark) > 0 ? error : absl::OkStatus();
  };
}

inline FakeModel::Fault OutOfMemoryAbove(size_t photos) {
  return [photos](const std::vector<int>& marks) {
    if (marks.size() > photos) throw std::bad_alloc();
    return absl::OkStatus();
  };
}

// `fault` for the first `times` runs, then none.
inline FakeModel::Fault Times(int times, FakeModel::Fault fault) {
  auto left = std::make_shared<std::atomic<int>>(times);
  return [left, fault](const std::vector<int>& marks) {
    return (*left)-- > 0 ? fault(marks) : absl::OkStatus();
  };
}

// Holds runs until they are released. Copies are the same gate. Thread-safe.
class Hang {
 public:
  // A run hangs when it holds a photo with this first byte.
  FakeModel::Fault On(int mark) const {
    return [state = state_, mark](const std::vector<int>& marks) {
      if (std::count(marks.begin(), marks.end(), mark) > 0) state->Enter();
      return absl::OkStatus();
    };
  }
  FakeModel::Fault Always() const {
    return [state = state_](const std::vector<int>&) {
      state->Enter();
      return absl::OkStatus();
    };
  }

  // Blocks until so many runs hang.
  void Await(int count) const { state_->Await(count); }

  // Lets go of those that hang now; those that come later hang again.
  void Release() const { state_->Release(); }

  int hanging() const {
    server::MutexLock lock(state_->mu);
    return state_->hanging;
  }

 private:
  struct State {
    server::Mutex mu;
    server::CondVar changed;
    int hanging ABSL_GUARDED_BY(mu) = 0;
    int round ABSL_GUARDED_BY(mu) = 0;

    void Enter() {
      server::MutexLock lock(mu);
      const int mine = round;
      ++hanging;
      changed.NotifyAll();
      while (round == mine) changed.Wait(mu);
    }
    void Await(int count) {
      server::MutexLock lock(mu);
      while (hanging < count) changed.Wait(mu);
    }
    void Release() {
      server::MutexLock lock(mu);
      ++round;
      hanging = 0;
      changed.NotifyAll();
    }
  };

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace dla
