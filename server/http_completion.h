// What a handler of HTTP waits for while others work.
#pragma once

#include "absl/status/status.h"

namespace dla::server {

// Shared by the handler's thread and whoever does the work; the handler may give up first.
class HttpCompletion {
 public:
  HttpCompletion();
  ~HttpCompletion();

  HttpCompletion(const HttpCompletion&) = delete;
  HttpCompletion& operator=(const HttpCompletion&) = delete;

  // Called once, by any thread.
  void Set(absl::Status status);

  // By the handler's thread: what Set was told. CANCELLED if the caller hangs up before,
  // UNAVAILABLE if the server ends all requests; true goes to `gave_up` then.
  absl::Status Await(bool& gave_up);

 private:
  absl::Status status_;
  int event_;  // an eventfd; -1 where there was no descriptor left
};

}  // namespace dla::server
