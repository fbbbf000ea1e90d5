// Puts a server under load and keeps account of the answers.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "client/latency_histogram.h"
#include "client/load_pacer.h"
#include "dla/v1/classifier.pb.h"

namespace dla::client {

struct BenchErrors {
  int64_t count = 0;
  std::string first_message;
};

// Of the measured requests: in a closed loop that ends by the clock those answered in the measured
// time, else those due in it, whenever their answers came.
struct BenchFigures {
  LatencyHistogram latency;     // requests that succeeded, counted from when they were due
  LatencyHistogram since_sent;  // the same, counted from when they were sent
  std::map<absl::StatusCode, BenchErrors> errors;
  int64_t failed = 0;
  int64_t late = 0;        // sent more than a millisecond after they were due
  int64_t unanswered = 0;  // under way when the run was ended early
  bool interrupted = false;
  double seconds = 0;  // that they took, from the end of the warm-up on

  // Sums over the requests that succeeded, as the server told.
  double decode_ms = 0, queue_ms = 0, inference_ms = 0, batch_size = 0;

  double images_per_second() const {
    return seconds > 0 ? static_cast<double>(latency.count()) / seconds : 0;
  }
};

class BenchRun {
 public:
  // `requests`, serialised and at least one, are sent in turn over `channels` in turn. A request
  // fails when `timeout` has passed since it was due. Nothing is sent twice.
  BenchRun(const LoadPlan& plan, std::chrono::nanoseconds timeout,
           const std::vector<std::shared_ptr<grpc::Channel>>& channels,
           std::vector<grpc::ByteBuffer> requests, LoadClock& clock = LoadClock::Real());

  // Returns the figures once the plan is done or the run is cancelled. Meanwhile `progress` gets
  // them four times a second, on this thread. To be called once.
  BenchFigures Run(absl::FunctionRef<void(const BenchFigures&)> progress);

  // Makes Run end soon; open requests are given up and not counted. Thread-safe.
  void Cancel();

 private:
  struct Call {
    LoadRequest request;
    grpc::ClientContext context;
    grpc::ByteBuffer reply;
  };

  void Send(const LoadRequest& request);
  void Done(std::list<Call>::iterator call, const grpc::Status& status);
  bool Counts(const LoadRequest& request, LoadTime done) const;

  // With mu_ held.
  void RecordFailure(const absl::Status& error);
  BenchFigures Figures(LoadTime now) const;

  const LoadPlan plan_;
  const std::chrono::nanoseconds timeout_;
  const std::vector<grpc::ByteBuffer> requests_;
  LoadClock& clock_;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs_;

  // A std::mutex, since ThreadSanitizer does not see into the distribution's absl::Mutex.
  std::mutex mu_;
  std::condition_variable finished_;
  std::list<Call> calls_;  // under way; guarded by mu_, like all that follow
  BenchFigures figures_;
  LoadTime last_done_;
  bool is_finished_ = false;
  LoadPacer pacer_;
};

// `request` as it is sent, so that a photo is serialised once and not with each request.
grpc::ByteBuffer Serialize(const dla::v1::ClassifyRequest& request);

}  // namespace dla::client
