// What `classify` and `embed` share: find photos, send them, show progress, report failures.
#pragma once

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/photo_result.h"
#include "client/photo_sender.h"
#include "client/server_connection.h"

namespace dla::client {

enum ExitCode : int {
  kAllWell = 0,
  kFailed = 1,  // some photos failed, the server is not there, output cannot be written
  kUsageError = 2,
  kInterrupted = 130,  // as a shell says for SIGINT
};

struct PhotoRunOptions {
  std::vector<std::string> paths;
  ServerOptions server;
  SenderOptions sender;
};

struct PhotoRunSummary {
  // OK, or why the run ended before its end (see PhotoSender::Run). ABORTED, the quiet one, is for
  // a sink whose reader has gone.
  absl::Status status;
  bool any_failed = false;
};

// Sends all photos of `options` over `server`. `sink` gets every result in order; it may turn an
// answer into an error, and an error that it returns ends the run. Progress, the failed photos and
// a summary go to standard error.
PhotoRunSummary RunPhotos(const PhotoRunOptions& options, const ServerConnection& server,
                          absl::FunctionRef<absl::Status(PhotoResult&)> sink);

// The exit code for the summary.
ExitCode ExitCodeOf(const PhotoRunSummary& summary);

// Prints "dla-client: MESSAGE" to standard error, escaped, as one line.
void PrintError(absl::string_view message);

// Collects failures: all are counted, the first twenty are told.
class FailureReport {
 public:
  void Add(const std::string& file, const absl::Status& error);
  size_t count() const { return count_; }

  // "3 of 100 photos failed:" and a line for each; empty if none did.
  std::string Text(size_t total) const;

 private:
  size_t count_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace dla::client
