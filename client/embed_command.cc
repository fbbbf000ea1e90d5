#include "client/embed_command.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cli/atomic_file.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "client/npy_writer.h"

namespace dla::client {
namespace {

// Takes the rows of one model; embeddings of another one must not be mixed in.
class EmbeddingFile {
 public:
  static absl::StatusOr<EmbeddingFile> Create(const std::string& path) {
    auto matrix = NpyWriter::Create(path);
    if (!matrix.ok()) return matrix.status();
    auto names = cli::AtomicFile::Create(NamesPath(path));
    if (!names.ok()) return names.status();
    return EmbeddingFile(*std::move(matrix), *std::move(names));
  }

  // An error of the photo makes it a failed one; an error that is returned ends the run.
  absl::Status Append(PhotoResult& result) {
    if (!result.answer.ok()) return absl::OkStatus();
    if (absl::Status fit = CheckFit(result); !fit.ok()) {
      result.answer = fit;
      return absl::OkStatus();
    }
    const auto& embedding = result.answer->embedding();
    absl::Status row = matrix_.AppendRow({embedding.data(), static_cast<size_t>(embedding.size())});
    if (absl::IsInvalidArgument(row)) {
      result.answer = row;
      return absl::OkStatus();
    }
    if (!row.ok()) return row;
    return names_.Append(absl::StrCat(result.file, "\n"));
  }

  absl::Status Commit() {
    if (absl::Status status = matrix_.Commit(); !status.ok()) return status;
    return names_.Commit();
  }

  uint64_t rows() const { return matrix_.rows(); }
  std::string Description() const {
    return cli::Printable(absl::StrCat(matrix_.path(), ": ", matrix_.rows(), " x ",
                                       matrix_.columns(), " float32 by ", model_, "; names in ",
                                       names_.path()));
  }

 private:
  EmbeddingFile(NpyWriter matrix, cli::AtomicFile names)
      : matrix_(std::move(matrix)), names_(std::move(names)) {}

  absl::Status CheckFit(const PhotoResult& result) {
    const std::string model =
        absl::StrCat(result.answer->model(), " version ", result.answer->model_version());
    if (rows() == 0) model_ = model;
    if (model != model_) {
      return absl::AbortedError(
          absl::StrCat("was answered by ", model, ", the photos before by ", model_));
    }
    if (result.file.find_first_of("\r\n") != std::string::npos) {
      return absl::InvalidArgumentError(
          "has a line break in its name, which the file of names cannot hold");
    }
    return absl::OkStatus();
  }

  NpyWriter matrix_;
  cli::AtomicFile names_;
  std::string model_;  // of all rows
};

}  // namespace

std::string NamesPath(const std::string& npy_path) {
  return absl::StrCat(absl::StripSuffix(npy_path, ".npy"), ".names.txt");
}

ExitCode RunEmbed(const EmbedOptions& options) {
  const auto connection = ServerConnection::Make(options.run.server);
  if (!connection.ok()) {
    PrintError(connection.status().message());
    return kUsageError;
  }
  const ServerConnection& server = *connection;
  if (auto model = server.GetModel(options.run.sender.request.model()); !model.ok()) {
    PrintError(model.status().message());
    return kFailed;
  }
  auto file = EmbeddingFile::Create(options.out);
  if (!file.ok()) {
    PrintError(file.status().message());
    return kFailed;
  }
  const PhotoRunSummary summary =
      RunPhotos(options.run, server, [&](PhotoResult& result) { return file->Append(result); });
  if (!summary.status.ok() || file->rows() == 0) {
    PrintError(absl::StrCat(options.out, " was not written"));
    return summary.status.ok() ? kFailed : ExitCodeOf(summary);
  }
  if (absl::Status status = file->Commit(); !status.ok()) {
    PrintError(status.message());
    return kFailed;
  }
  cli::WriteError(file->Description() + "\n");
  return ExitCodeOf(summary);
}

}  // namespace dla::client
