// One ClassifyStream call.
#pragma once

#include <deque>
#include <memory>

#include "dla/v1/classifier.grpc.pb.h"
#include "server/classifier_service.h"
#include "server/mutex.h"
#include "server/photo.h"

namespace dla::server {

// Reads while fewer than kMaxInFlight photos are unanswered, so a caller that does not fetch its
// answers is stopped by gRPC's flow control. Every message that was read is answered before the
// call ends, unless the caller is gone. Owned by gRPC: deletes itself in OnDone.
//
// Invariant: in_flight_ counts the messages read whose answers have not been written. Only while it
// is 0 and nothing is being read any more does the call finish, so answers always find the reactor.
class ClassifyStreamReactor final
    : public grpc::ServerBidiReactor<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse> {
 public:
  static constexpr int kMaxInFlight = 64;

  ClassifyStreamReactor(ClassifierService& service, TimePoint deadline)
      : service_(service), deadline_(deadline) {}

  // Begins to read. Called once.
  void Start() { ReadMore(); }

  // Reads nothing more, ends the call with UNAVAILABLE once all is answered. Thread-safe,
  // idempotent.
  void Drain();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void ReadMore();  // unless a read is under way or there is a reason not to
  void Accept(v1::ClassifyStreamRequest message);
  void Send(v1::ClassifyStreamResponse response);
  bool ShouldFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ShouldRead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishCall();

  ClassifierService& service_;
  const TimePoint deadline_;
  const std::shared_ptr<CancelFlag> cancelled_ = std::make_shared<CancelFlag>(false);

  v1::ClassifyStreamRequest incoming_;  // touched only while reading_

  Mutex mu_;
  std::deque<v1::ClassifyStreamResponse> outgoing_ ABSL_GUARDED_BY(mu_);  // front is being written
  int in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool no_more_reads_ ABSL_GUARDED_BY(mu_) = false;  // the caller is done, or gone
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace dla::server
