#include "server/reaper.h"

#include <utility>

namespace dla::server {

Reaper::Reaper() : thread_([this] { Work(); }) {}

Reaper::~Reaper() {
  {
    MutexLock lock(mu_);
    closed_ = true;
    changed_.NotifyOne();
  }
  thread_.join();
}

std::shared_ptr<ServedModel> Reaper::Share(std::unique_ptr<ServedModel> model) {
  {
    MutexLock lock(mu_);
    ++shared_;
  }
  return {model.release(), [this](ServedModel* dead) { Take(dead); }};
}

void Reaper::Take(ServedModel* model) {
  MutexLock lock(mu_);
  --shared_;
  dead_.emplace_back(model);
  changed_.NotifyOne();  // with the lock: once it is free, the reaper itself may be gone
}

void Reaper::Work() {
  for (;;) {
    std::vector<std::unique_ptr<ServedModel>> dead;
    {
      MutexLock lock(mu_);
      while (dead_.empty() && !(closed_ && shared_ == 0)) changed_.Wait(mu_);
      if (dead_.empty()) return;
      dead.swap(dead_);
    }
  }
}

}  // namespace dla::server
