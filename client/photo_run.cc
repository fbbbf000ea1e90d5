#include "client/photo_run.h"

#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/interrupt.h"
#include "cli/photo_files.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace dla::client {
namespace {

constexpr size_t kFailuresTold = 20;
constexpr size_t kFewPhotos = 4;

std::string Photos(size_t count) { return absl::StrCat(count, count == 1 ? " photo" : " photos"); }

}  // namespace

void PrintError(absl::string_view message) {
  cli::WriteError(absl::StrCat("dla-client: ", cli::Printable(message), "\n"));
}

void FailureReport::Add(const std::string& file, const absl::Status& error) {
  if (++count_ > kFailuresTold) return;
  lines_.push_back(
      absl::StrCat("  ", cli::Printable(file), ": ", cli::Printable(error.message()), "\n"));
}

std::string FailureReport::Text(size_t total) const {
  if (count_ == 0) return "";
  std::string text =
      absl::StrCat(count_, " of ", Photos(total), " failed:\n", absl::StrJoin(lines_, ""));
  if (count_ > lines_.size())
    absl::StrAppend(&text, "  ... and ", count_ - lines_.size(), " more\n");
  return text;
}

PhotoRunSummary RunPhotos(const PhotoRunOptions& options, const ServerConnection& server,
                          absl::FunctionRef<absl::Status(PhotoResult&)> sink) {
  const std::vector<cli::PhotoFile> photos = cli::FindPhotos(options.paths);
  const bool shares_the_screen = cli::DescribeTerminal(STDOUT_FILENO).is_terminal;
  FailureReport failures;
  size_t done = 0;
  PhotoRunSummary summary;
  cli::ProgressBar bar(static_cast<int64_t>(photos.size()));
  {
    PhotoSender sender(server.channel(), options.sender);
    const cli::Interrupt interrupt([&sender] { sender.Cancel(); });
    bar.Show(0, 0);
    summary.status = sender.Run(photos, [&](PhotoResult& result) {
      if (shares_the_screen) bar.Hide();
      if (absl::Status status = sink(result); !status.ok()) return status;
      if (!result.answer.ok()) failures.Add(result.file, result.answer.status());
      ++done;
      bar.Show(static_cast<int64_t>(done), static_cast<int64_t>(failures.count()));
      return absl::OkStatus();
    });
  }
  bar.Hide();
  summary.any_failed = failures.count() > 0;
  cli::WriteError(failures.Text(photos.size()));
  if (photos.size() > kFewPhotos) cli::WriteError(cli::SummaryText(bar.progress()) + "\n");
  if (absl::IsCancelled(summary.status)) {
    PrintError(absl::StrCat("interrupted after ", done, " of ", Photos(photos.size())));
  } else if (!summary.status.ok() && !absl::IsAborted(summary.status)) {
    PrintError(absl::StrCat("stopped after ", done, " of ", Photos(photos.size()), ": ",
                            summary.status.message()));
  }
  return summary;
}

ExitCode ExitCodeOf(const PhotoRunSummary& summary) {
  if (absl::IsCancelled(summary.status)) return kInterrupted;
  return summary.status.ok() && !summary.any_failed ? kAllWell : kFailed;
}

}  // namespace dla::client
