// A call on which many requests are in flight at once, each answered by one message.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <utility>

#include "grpcpp/support/server_callback.h"
#include "server/call_tracker.h"
#include "server/grpc_status.h"
#include "server/mutex.h"
#include "server/photo.h"

namespace dla::server {

// Reads while fewer than kMaxInFlight messages are unanswered, so a caller that does not fetch its
// answers is stopped by gRPC's flow control. Every message that was read is answered before the
// call ends, unless the caller is gone. Owned by gRPC: deletes itself in OnDone.
//
// Invariant: in_flight_ counts the messages read whose answers have not been written. Only while it
// is 0 and nothing is being read any more does the call finish, so answers always find the reactor.
template <typename Request, typename Response>
class MessageStream : public grpc::ServerBidiReactor<Request, Response>, public OpenStream {
 public:
  static constexpr int kMaxInFlight = 64;

  explicit MessageStream(CallTracker& calls) : calls_(calls) {}

  // Begins to read. Called once.
  void Start() {
    calls_.Add(*this);
    ReadMore();
  }

  // Ends the call with UNAVAILABLE once all is answered.
  void Drain() final {
    bool finish;
    {
      MutexLock lock(mu_);
      draining_ = true;
      finish = ShouldFinish();
    }
    if (finish) FinishCall();
  }

  void OnReadDone(bool ok) final {
    // Taken before reading_ falls: from then on another thread may read into incoming_.
    Request message = std::move(incoming_);
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

  void OnWriteDone(bool) final {
    const Response* write = nullptr;
    bool finish = false;
    {
      MutexLock lock(mu_);
      outgoing_.pop_front();
      --in_flight_;
      if (!outgoing_.empty()) write = &outgoing_.front();
      finish = ShouldFinish();
    }
    if (write != nullptr) this->StartWrite(write);
    if (finish) {
      FinishCall();
    } else {
      ReadMore();
    }
  }

  void OnCancel() final { cancelled_->store(true, std::memory_order_relaxed); }

  void OnDone() final {
    calls_.Remove(*this);
    delete this;
  }

 protected:
  ~MessageStream() override = default;

  // Takes one message, which Send is then called for exactly once, by any thread.
  virtual void Accept(Request message) = 0;

  void Send(Response response) {
    const Response* write = nullptr;
    {
      MutexLock lock(mu_);
      outgoing_.push_back(std::move(response));
      if (outgoing_.size() == 1) write = &outgoing_.front();
    }
    if (write != nullptr) this->StartWrite(write);
  }

  // Set once the caller is gone.
  const std::shared_ptr<CancelFlag>& cancelled() const { return cancelled_; }

 private:
  // Unless a read is under way or there is a reason not to.
  void ReadMore() {
    {
      MutexLock lock(mu_);
      const bool may = !no_more_reads_ && !draining_ && !finished_ && in_flight_ < kMaxInFlight;
      if (reading_ || !may) return;
      reading_ = true;
    }
    incoming_.Clear();
    this->StartRead(&incoming_);
  }

  // True at most once.
  bool ShouldFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || in_flight_ > 0 || !(no_more_reads_ || draining_)) return false;
    finished_ = true;
    return true;
  }

  void FinishCall() {
    bool drained;
    {
      MutexLock lock(mu_);
      drained = !no_more_reads_;
    }
    if (cancelled_->load(std::memory_order_relaxed)) {
      this->Finish(grpc::Status::CANCELLED);
    } else if (drained) {
      this->Finish(ToGrpcStatus(
          absl::UnavailableError("the server is shutting down; all that it had read was answered, "
                                 "send the rest elsewhere")));
    } else {
      this->Finish(grpc::Status::OK);
    }
  }

  CallTracker& calls_;
  const std::shared_ptr<CancelFlag> cancelled_ = std::make_shared<CancelFlag>(false);

  Request incoming_;  // touched only while reading_

  Mutex mu_;
  std::deque<Response> outgoing_ ABSL_GUARDED_BY(mu_);  // front is being written
  int in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool no_more_reads_ ABSL_GUARDED_BY(mu_) = false;  // the caller is done, or gone
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace dla::server
