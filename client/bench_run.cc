#include "client/bench_run.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/duration_ms.h"
#include "client/grpc_errors.h"

namespace dla::client {
namespace {

constexpr char kClassify[] = "/dla.v1.Classifier/Classify";
constexpr std::chrono::milliseconds kProgressEvery{250};
constexpr std::chrono::milliseconds kLate{1};

}  // namespace

grpc::ByteBuffer Serialize(const dla::v1::ClassifyRequest& request) {
  const grpc::Slice slice(request.SerializeAsString());
  return {&slice, 1};
}

BenchRun::BenchRun(const LoadPlan& plan, std::chrono::nanoseconds timeout,
                   const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                   std::vector<grpc::ByteBuffer> requests, LoadClock& clock)
    : plan_(plan),
      timeout_(timeout),
      requests_(std::move(requests)),
      clock_(clock),
      pacer_(plan, clock, [this](const LoadRequest& request) { Send(request); }) {
  for (const auto& channel : channels) {
    stubs_.push_back(std::make_unique<grpc::GenericStub>(channel));
  }
}

BenchFigures BenchRun::Run(absl::FunctionRef<void(const BenchFigures&)> progress) {
  std::thread pacer([this] {
    pacer_.Run();
    const std::lock_guard lock(mu_);
    is_finished_ = true;
    finished_.notify_all();
  });
  std::unique_lock lock(mu_);
  while (!finished_.wait_for(lock, kProgressEvery, [this] { return is_finished_; })) {
    const BenchFigures so_far = Figures(clock_.Now());
    lock.unlock();
    progress(so_far);
    lock.lock();
  }
  BenchFigures figures = Figures(clock_.Now());
  lock.unlock();
  pacer.join();
  return figures;
}

void BenchRun::Cancel() {
  pacer_.Stop();
  const std::lock_guard lock(mu_);
  figures_.interrupted = true;
  for (Call& call : calls_) call.context.TryCancel();
}

void BenchRun::Send(const LoadRequest& request) {
  const auto time_left = request.due + timeout_ - request.sent;
  std::list<Call>::iterator call;
  {
    const std::lock_guard lock(mu_);
    if (time_left.count() <= 0) {
      if (Counts(request, request.sent)) {
        RecordFailure(absl::DeadlineExceededError("its time had passed before it could be sent"));
        ++figures_.late;
      }
      last_done_ = std::max(last_done_, request.sent);
    } else {
      call = calls_.emplace(calls_.end());
      call->request = request;
      if (figures_.interrupted) call->context.TryCancel();
    }
  }
  if (time_left.count() <= 0) {
    pacer_.Answered();
    return;
  }
  call->context.set_deadline(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(time_left));
  const auto number = static_cast<size_t>(request.number);
  stubs_[number % stubs_.size()]->UnaryCall(
      &call->context, kClassify, {}, &requests_[number % requests_.size()], &call->reply,
      [this, call](const grpc::Status& status) { Done(call, status); });
}

void BenchRun::Done(std::list<Call>::iterator call, const grpc::Status& status) {
  const LoadTime now = clock_.Now();
  absl::Status error = status.ok() ? absl::OkStatus() : FromGrpc(status);
  dla::v1::ClassifyResponse response;
  if (status.ok()) {
    grpc::ProtoBufferReader reader(&call->reply);
    if (!response.ParseFromZeroCopyStream(&reader)) {
      error = absl::InternalError("the answer is no ClassifyResponse: is it a dla-server?");
    }
  }
  {
    const std::lock_guard lock(mu_);
    const LoadRequest& request = call->request;
    if (figures_.interrupted && absl::IsCancelled(error)) {
      if (request.measured) ++figures_.unanswered;
    } else if (Counts(request, now)) {
      last_done_ = std::max(last_done_, now);
      if (request.sent - request.due > kLate) ++figures_.late;
      if (error.ok()) {
        figures_.latency.Record(now - request.due);
        figures_.since_sent.Record(now - request.sent);
        const dla::v1::Timing& timing = response.timing();
        figures_.decode_ms += DurationMs(timing.decode());
        figures_.queue_ms += DurationMs(timing.queue());
        figures_.inference_ms += DurationMs(timing.inference());
        figures_.batch_size += timing.batch_size();
      } else {
        RecordFailure(error);
      }
    }
    calls_.erase(call);
  }
  pacer_.Answered();
}

bool BenchRun::Counts(const LoadRequest& request, LoadTime done) const {
  const bool by_answer = plan_.concurrency > 0 && plan_.requests == 0;
  return by_answer ? done >= pacer_.begin() && done < pacer_.end() : request.measured;
}

void BenchRun::RecordFailure(const absl::Status& error) {
  ++figures_.failed;
  BenchErrors& errors = figures_.errors[error.code()];
  if (errors.count++ == 0) errors.first_message = std::string(error.message());
}

BenchFigures BenchRun::Figures(LoadTime now) const {
  BenchFigures figures = figures_;
  const bool by_plan = is_finished_ && !figures.interrupted;
  // By count, it ends with the last answer; by the clock, when no more requests are due.
  LoadTime end = !by_plan             ? std::min(now, pacer_.end())
                 : plan_.requests > 0 ? last_done_
                                      : pacer_.end();
  // An open loop counts answers that come later, and must count their time.
  if (plan_.concurrency == 0) end = std::max(end, last_done_);
  figures.seconds = std::max(0.0, std::chrono::duration<double>(end - pacer_.begin()).count());
  return figures;
}

}  // namespace dla::client
