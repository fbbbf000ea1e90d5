#include "server/http_completion.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "server/http_connection.h"

namespace dla::server {

HttpCompletion::HttpCompletion() : event_(eventfd(0, EFD_CLOEXEC)) {}

HttpCompletion::~HttpCompletion() {
  if (event_ >= 0) close(event_);
}

void HttpCompletion::Set(absl::Status status) {
  status_ = std::move(status);
  const uint64_t one = 1;
  if (event_ >= 0) (void)!write(event_, &one, sizeof one);
}

absl::Status HttpCompletion::Await(bool& gave_up) {
  gave_up = true;
  if (event_ < 0) {
    return absl::ResourceExhaustedError("the server has no file descriptor left to wait with");
  }
  switch (HttpConnection::Current().Await(event_)) {
    case HttpConnection::Event::kHungUp:
      return absl::CancelledError("the caller hung up");
    case HttpConnection::Event::kStopping:
      return absl::UnavailableError("the server is shutting down");
    case HttpConnection::Event::kReady:
      break;
  }
  uint64_t count = 0;
  (void)!read(event_, &count, sizeof count);
  gave_up = false;
  return std::move(status_);
}

}  // namespace dla::server
