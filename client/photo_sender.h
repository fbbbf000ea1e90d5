// Sends photos to a server, several at a time, and gives the answers back in order.
#pragma once

#include <grpcpp/channel.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/photo_files.h"
#include "client/mailbox.h"
#include "client/photo_result.h"
#include "client/retry_policy.h"
#include "dla/v1/classifier.grpc.pb.h"

namespace dla::client {

struct SenderOptions {
  // Photos on their way at the same time, those that wait for another try included. >= 1.
  int concurrency = 8;

  // For one photo from its first try to its answer, all further tries included.
  absl::Duration timeout = absl::Seconds(60);

  // Larger files fail without being sent.
  size_t max_file_size = size_t{32} << 20;

  // What to ask for each photo; the image is filled in.
  dla::v1::ClassifyRequest request;

  RetryPolicy retry;
};

class PhotoSender {
 public:
  PhotoSender(std::shared_ptr<grpc::Channel> channel, SenderOptions options);
  ~PhotoSender();

  // Sends every photo and hands each result to `sink`, on this thread and in the photos' order.
  // A photo that fails does not end the run. What ends it, after `sink` had the results that came
  // before:
  //   CANCELLED    Cancel was called, or a signal ended the reading of a photo
  //   UNAVAILABLE  the server is gone: it answered nothing at all while a photo was refused until
  //                its time had passed, or while that time passed twice in silence
  //   otherwise    the error that `sink` returned
  // At most four times `concurrency` results wait for an earlier one. To be called once.
  absl::Status Run(const std::vector<cli::PhotoFile>& photos,
                   absl::FunctionRef<absl::Status(PhotoResult&)> sink);

  // Makes Run end soon. Thread-safe.
  void Cancel();

  bool cancelled() const;

 private:
  struct Photo;

  absl::Status Work(const std::vector<cli::PhotoFile>& photos,
                    absl::FunctionRef<absl::Status(PhotoResult&)> sink);
  absl::Status Start(const cli::PhotoFile& file);
  void Send(Photo& photo);
  void TakeAnswers(absl::Time until);
  void Settle(Photo& photo);
  void Finish(Photo& photo, const absl::Status& error);
  bool IsGone(const Photo& photo, const grpc::Status& status, absl::Time now) const;
  absl::Status Explain(const Photo& photo, const grpc::Status& status) const;
  void SendAgain();
  absl::Time NextTry() const;
  void Abandon();

  const SenderOptions options_;
  const std::unique_ptr<dla::v1::Classifier::Stub> stub_;

  // The photos from the next one for the sink to the last one started. All of this is touched by
  // the thread in Run alone, but for a photo's call while gRPC has it.
  std::deque<std::unique_ptr<Photo>> window_;
  int unfinished_ = 0;  // photos of the window without a result
  size_t calls_ = 0;    // those of them whose call is out
  absl::Time last_sign_of_life_;
  absl::Status lost_;  // why the server is taken for gone
  std::minstd_rand random_;

  Mailbox<Photo*> answered_;  // filled by gRPC's threads; closed by Cancel
};

}  // namespace dla::client
