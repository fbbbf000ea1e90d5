#include "server/classify_stream.h"

#include <utility>

#include "server/classify_request.h"
#include "server/grpc_status.h"
#include "server/request_record.h"

namespace dla::server {

bool ClassifyStreamReactor::ShouldRead() {
  return !reading_ && !no_more_reads_ && !draining_ && !finished_ && in_flight_ < kMaxInFlight;
}

// True at most once.
bool ClassifyStreamReactor::ShouldFinish() {
  if (finished_ || in_flight_ > 0 || !(no_more_reads_ || draining_)) return false;
  finished_ = true;
  return true;
}

void ClassifyStreamReactor::FinishCall() {
  bool drained;
  {
    MutexLock lock(mu_);
    drained = !no_more_reads_;
  }
  if (cancelled_->load(std::memory_order_relaxed)) {
    Finish(grpc::Status::CANCELLED);
  } else if (drained) {
    Finish(
        ToGrpcStatus(absl::UnavailableError("the server is shutting down; all that it had read was "
                                            "answered, send the rest elsewhere")));
  } else {
    Finish(grpc::Status::OK);
  }
}

void ClassifyStreamReactor::Drain() {
  bool finish;
  {
    MutexLock lock(mu_);
    draining_ = true;
    finish = ShouldFinish();
  }
  if (finish) FinishCall();
}

void ClassifyStreamReactor::OnReadDone(bool ok) {
  // Taken before reading_ falls: from then on another thread may read into incoming_.
  v1::ClassifyStreamRequest message = std::move(incoming_);
  bool finish = false;
  {
    MutexLock lock(mu_);
    reading_ = false;
    if (finished_) return;
    if (ok) {
      ++in_flight_;
    } else {
      no_more_reads_ = true;
      finish = ShouldFinish();
    }
  }
  if (finish) FinishCall();
  if (!ok) return;
  Accept(std::move(message));
  ReadMore();
}

void ClassifyStreamReactor::ReadMore() {
  {
    MutexLock lock(mu_);
    if (!ShouldRead()) return;
    reading_ = true;
  }
  incoming_.Clear();
  StartRead(&incoming_);
}

void ClassifyStreamReactor::Accept(v1::ClassifyStreamRequest message) {
  const ServiceContext& service = service_.context_;
  RequestRecord record(service.unknown_model, Method::kClassifyStream, service.clock);
  const uint64_t id = message.id();
  // The photo's bytes live as long as its answer is outstanding.
  auto request = std::make_unique<v1::ClassifyRequest>(std::move(*message.mutable_request()));

  absl::StatusOr<Target> target = ResolveTarget(service.registry, *request);
  if (!target.ok()) {
    record.Finish(target.status().code());
    v1::ClassifyStreamResponse response;
    response.set_id(id);
    *response.mutable_result()->mutable_error() = ToRpcStatus(target.status());
    Send(std::move(response));
    return;
  }
  ServedModel& model = *target->model;  // the pipeline holds it until the answer
  record.SetModel(model.metrics());
  const absl::string_view bytes = request->image();
  service.pipeline.Submit(target->model, EncodedPhoto{bytes},
                          {.options = target->options,
                           .deadline = deadline_,
                           .cancelled = cancelled_,
                           .done = [this, id, record, &model, request = std::move(request)](
                                       absl::StatusOr<Answer> answer) mutable {
                             record.Finish(answer.status().code());
                             v1::ClassifyStreamResponse response;
                             response.set_id(id);
                             FillResult(model, std::move(answer), *response.mutable_result());
                             Send(std::move(response));
                           }});
}

void ClassifyStreamReactor::Send(v1::ClassifyStreamResponse response) {
  const v1::ClassifyStreamResponse* write = nullptr;
  {
    MutexLock lock(mu_);
    outgoing_.push_back(std::move(response));
    if (outgoing_.size() == 1) write = &outgoing_.front();
  }
  if (write != nullptr) StartWrite(write);
}

void ClassifyStreamReactor::OnWriteDone(bool) {
  const v1::ClassifyStreamResponse* write = nullptr;
  bool finish = false;
  {
    MutexLock lock(mu_);
    outgoing_.pop_front();
    --in_flight_;
    if (!outgoing_.empty()) write = &outgoing_.front();
    finish = ShouldFinish();
  }
  if (write != nullptr) StartWrite(write);
  if (finish) {
    FinishCall();
  } else {
    ReadMore();
  }
}

void ClassifyStreamReactor::OnCancel() { cancelled_->store(true, std::memory_order_relaxed); }

void ClassifyStreamReactor::OnDone() {
  {
    MutexLock lock(service_.mu_);
    service_.streams_.erase(this);
    service_.call_ended_.NotifyAll();
  }
  delete this;
}

}  // namespace dla::server
