// Destroys models that nobody uses any more, on a thread of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "server/mutex.h"
#include "server/served_model.h"

namespace dla::server {

// The last to let go of a model is often one of its own replicas, which just answered its last
// photo. ~ServedModel waits for the replicas, so it must not run there, nor hold up gRPC.
// Thread-safe.
class Reaper {
 public:
  Reaper();

  // Waits until every model is let go of and destroyed.
  ~Reaper();

  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // A model that may be let go of on any thread.
  std::shared_ptr<ServedModel> Share(std::unique_ptr<ServedModel> model);

 private:
  void Take(ServedModel* model);
  void Work();

  Mutex mu_;
  CondVar changed_;
  size_t shared_ ABSL_GUARDED_BY(mu_) = 0;  // and not yet let go of
  std::vector<std::unique_ptr<ServedModel>> dead_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace dla::server
