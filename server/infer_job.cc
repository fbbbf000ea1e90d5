#include "server/infer_job.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::server {
namespace {

absl::Status AtPhoto(const std::string& input, int photo, const absl::Status& status) {
  absl::Status result(status.code(), absl::StrCat(input, "[", photo, "]: ", status.message()));
  status.ForEachPayload([&result](absl::string_view type, const absl::Cord& payload) {
    result.SetPayload(type, payload);
  });
  return result;
}

}  // namespace

InferJob::InferJob(const InferTask& task, Done done)
    : input_(task.input),
      done_(std::move(done)),
      answers_(task.photos.size()),
      unanswered_(static_cast<int>(task.photos.size())) {}

void InferJob::Start(Pipeline& pipeline, std::shared_ptr<ServedModel> model, const InferTask& task,
                     const Caller& caller, TimePoint deadline,
                     std::shared_ptr<const CancelFlag> cancelled, Done done) {
  const std::shared_ptr<InferJob> job(new InferJob(task, std::move(done)));
  // The last answer may end the task while this loop runs.
  const std::vector<PhotoSource> photos = task.photos;
  const ClassifyOptions options = task.options;
  for (int i = 0; i < static_cast<int>(photos.size()); ++i) {
    pipeline.Submit(
        model, photos[i],
        {.options = options,
         .caller = caller,
         .deadline = deadline,
         .cancelled = cancelled,
         .failed = job->failed_,
         .done = [job, i](absl::StatusOr<Answer> answer) { job->OnAnswer(i, std::move(answer)); }});
  }
}

void InferJob::OnAnswer(int photo, absl::StatusOr<Answer> answer) {
  if (answer.ok()) {
    answers_[photo] = *std::move(answer);
  } else {
    MutexLock lock(mu_);
    if (error_.ok()) error_ = AtPhoto(input_, photo, answer.status());
    failed_->store(true, std::memory_order_relaxed);
  }
  if (--unanswered_ > 0) return;
  absl::Status error;
  {
    MutexLock lock(mu_);
    error = error_;
  }
  if (error.ok()) {
    std::move(done_)(std::move(answers_));
  } else {
    std::move(done_)(std::move(error));
  }
}

}  // namespace dla::server
