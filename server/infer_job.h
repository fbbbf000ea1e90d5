// The photos of one ModelInfer request: they go through the pipeline one by one, batched with
// everybody else's, and come together again.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/infer_request.h"
#include "server/mutex.h"
#include "server/pipeline.h"
#include "server/served_model.h"

namespace dla::server {

class InferJob {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<std::vector<Answer>>) &&>;

  // Calls `done` once, when all photos are answered: with all answers in order, or with the error
  // of the first photo that failed, its position named. From then on the others cost no forward
  // pass. What `task` points to is readable until then.
  static void Start(Pipeline& pipeline, std::shared_ptr<ServedModel> model, const InferTask& task,
                    const Caller& caller, TimePoint deadline,
                    std::shared_ptr<const CancelFlag> cancelled, Done done);

 private:
  InferJob(const InferTask& task, Done done);

  void OnAnswer(int photo, absl::StatusOr<Answer> answer);

  const std::string input_;
  const std::shared_ptr<CancelFlag> failed_ = std::make_shared<CancelFlag>(false);
  Done done_;
  std::vector<Answer> answers_;
  std::atomic<int> unanswered_;
  Mutex mu_;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
