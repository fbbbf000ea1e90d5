#include "client/photo_sender.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/grpc_errors.h"

namespace dla::client {
namespace {

constexpr absl::Duration kShown = absl::Milliseconds(100);  // finer times are not worth telling

// Codes that come without a server, too.
bool SaysThatNobodyIsThere(grpc::StatusCode code) {
  return code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED ||
         code == grpc::StatusCode::CANCELLED;
}

}  // namespace

struct PhotoSender::Photo {
  enum class State { kOnItsWay, kWaitingForTheNextTry, kDone };

  // One try. gRPC uses all of it until it calls back.
  struct Call {
    grpc::ClientContext context;
    dla::v1::ClassifyResponse response;
    grpc::Status status;
  };

  State state = State::kDone;
  PhotoResult result;
  dla::v1::ClassifyRequest request;
  std::unique_ptr<Call> call;
  absl::Time started;
  absl::Time next_try = absl::InfiniteFuture();
  absl::Time refused_since;  // or `started`, if the first try did not end in a refusal
  int tries = 0;
  grpc::Status last_refusal;
};

PhotoSender::PhotoSender(std::shared_ptr<grpc::Channel> channel, SenderOptions options)
    : options_(std::move(options)),
      stub_(dla::v1::Classifier::NewStub(std::move(channel))),
      random_(std::random_device{}()) {}

PhotoSender::~PhotoSender() = default;

absl::Status PhotoSender::Run(const std::vector<cli::PhotoFile>& photos,
                              absl::FunctionRef<absl::Status(PhotoResult&)> sink) {
  absl::Status status = Work(photos, sink);
  Abandon();
  return status;
}

void PhotoSender::Cancel() { answered_.Close(); }

bool PhotoSender::cancelled() const { return answered_.closed(); }

absl::Status PhotoSender::Work(const std::vector<cli::PhotoFile>& photos,
                               absl::FunctionRef<absl::Status(PhotoResult&)> sink) {
  last_sign_of_life_ = absl::Now();
  const size_t max_window = 4 * static_cast<size_t>(options_.concurrency);
  size_t next = 0;
  while (true) {
    while (!window_.empty() && window_.front()->state == Photo::State::kDone) {
      if (cancelled()) return absl::CancelledError("interrupted");
      const std::unique_ptr<Photo> photo = std::move(window_.front());
      window_.pop_front();
      if (absl::Status status = sink(photo->result); !status.ok()) return status;
    }
    if (cancelled()) return absl::CancelledError("interrupted");
    if (!lost_.ok()) return lost_;
    if (next < photos.size() && unfinished_ < options_.concurrency && window_.size() < max_window) {
      if (absl::Status status = Start(photos[next++]); !status.ok()) return status;
      TakeAnswers(absl::InfinitePast());
    } else if (window_.empty()) {
      return absl::OkStatus();
    } else if (unfinished_ > 0) {
      TakeAnswers(NextTry());
    }
    SendAgain();
  }
}

absl::Status PhotoSender::Start(const cli::PhotoFile& file) {
  window_.push_back(std::make_unique<Photo>());
  Photo& photo = *window_.back();
  photo.result.file = file.path;
  auto bytes = cli::ReadPhoto(file, options_.max_file_size);
  if (absl::IsCancelled(bytes.status())) return bytes.status();
  if (!bytes.ok()) {
    photo.result.answer = bytes.status();
    return absl::OkStatus();
  }
  photo.request = options_.request;
  photo.request.set_image(*std::move(bytes));
  photo.started = photo.refused_since = absl::Now();
  ++unfinished_;
  Send(photo);
  return absl::OkStatus();
}

void PhotoSender::Send(Photo& photo) {
  photo.state = Photo::State::kOnItsWay;
  photo.next_try = absl::InfiniteFuture();
  photo.call = std::make_unique<Photo::Call>();
  Photo::Call& call = *photo.call;
  ++photo.tries;
  ++calls_;
  call.context.set_deadline(absl::ToChronoTime(photo.started + options_.timeout));
  stub_->async()->Classify(&call.context, &photo.request, &call.response,
                           [this, &photo](grpc::Status status) {
                             photo.call->status = std::move(status);
                             answered_.Put(&photo);
                           });
}

void PhotoSender::TakeAnswers(absl::Time until) {
  const std::vector<Photo*> answered = answered_.Take(until);
  calls_ -= answered.size();
  for (Photo* photo : answered) Settle(*photo);
}

void PhotoSender::Settle(Photo& photo) {
  const std::unique_ptr<Photo::Call> call = std::move(photo.call);
  const grpc::Status& status = call->status;
  const absl::Time now = absl::Now();
  if (status.ok()) {
    photo.result.answer = std::move(call->response);
    last_sign_of_life_ = now;
    Finish(photo, absl::OkStatus());
    return;
  }
  const absl::Duration time_left = photo.started + options_.timeout - now;
  const double random = std::uniform_real_distribution<double>()(random_);
  const auto delay = RetryDelay(options_.retry, status, photo.tries, time_left, random);
  if (!SaysThatNobodyIsThere(status.error_code())) last_sign_of_life_ = now;
  if (delay.has_value()) {
    if (photo.tries == 1) photo.refused_since = now;
    photo.state = Photo::State::kWaitingForTheNextTry;
    photo.next_try = now + *delay;
    photo.last_refusal = status;
  } else if (IsGone(photo, status, now)) {
    const grpc::Status& reason = photo.last_refusal.ok() ? status : photo.last_refusal;
    lost_ = absl::UnavailableError(
        absl::StrCat("the server has answered nothing for ",
                     absl::FormatDuration(absl::Trunc(now - last_sign_of_life_, kShown)), " (",
                     IsLocalTimeout(reason) ? "no error either" : FromGrpc(reason).message(), ")"));
  } else {
    Finish(photo, Explain(photo, status));
  }
}

void PhotoSender::Finish(Photo& photo, const absl::Status& error) {
  if (!error.ok()) photo.result.answer = error;
  photo.state = Photo::State::kDone;
  photo.request.Clear();
  --unfinished_;
}

bool PhotoSender::IsGone(const Photo& photo, const grpc::Status& status, absl::Time now) const {
  const bool silent = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  const grpc::Status& refusal = silent ? photo.last_refusal : status;
  if (refusal.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return last_sign_of_life_ <= photo.refused_since;
  }
  return silent && last_sign_of_life_ <= photo.started &&
         now - last_sign_of_life_ >= 2 * options_.timeout;
}

absl::Status PhotoSender::Explain(const Photo& photo, const grpc::Status& status) const {
  absl::Status plain = FromGrpc(status);
  const std::string time = absl::FormatDuration(options_.timeout);
  if (IsRefusal(status)) {
    return absl::Status(plain.code(), absl::StrCat("refused ", photo.tries,
                                                   photo.tries == 1 ? " time in " : " times in ",
                                                   time, ": ", plain.message()));
  }
  if (!IsLocalTimeout(status)) return plain;
  return absl::DeadlineExceededError(absl::StrCat(
      "no answer within ", time,
      photo.last_refusal.ok()
          ? ""
          : absl::StrCat("; refused before: ", FromGrpc(photo.last_refusal).message())));
}

void PhotoSender::SendAgain() {
  const absl::Time now = absl::Now();
  for (const auto& photo : window_) {
    if (photo->next_try <= now) Send(*photo);
  }
}

absl::Time PhotoSender::NextTry() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& photo : window_) next = std::min(next, photo->next_try);
  return next;
}

void PhotoSender::Abandon() {
  for (const auto& photo : window_) {
    if (photo->call != nullptr) photo->call->context.TryCancel();
  }
  answered_.TakeAll(calls_);
  calls_ = 0;
  window_.clear();
}

}  // namespace dla::client
