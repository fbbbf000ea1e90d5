#include "client/similar_command.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/atomic_file.h"
#include "cli/photo_files.h"
#include "cli/text.h"
#include "client/json_text.h"
#include "client/result_format.h"
#include "client/similar_page.h"

namespace dla::client {
namespace {

constexpr int kBarColumns = 20;
constexpr size_t kMaxPageBytes = size_t{64} << 20;  // of photos; browsers show no more with ease

// What embeddings in 32-bit floats can tell.
std::string SimilarityText(double similarity) { return absl::StrFormat("%.6f", similarity); }

bool IsSameFile(const std::string& a, const std::string& b) {
  struct stat x, y;
  return stat(a.c_str(), &x) == 0 && stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

absl::Status WritePage(const SimilarOptions& options, const SimilarPage& page,
                       cli::AtomicFile& file) {
  const absl::Status written = WriteSimilarPage(
      page, kMaxPageBytes,
      [&](const std::string& path) -> absl::StatusOr<std::string> {
        if (path == "-") return absl::NotFoundError("came from standard input");
        return cli::ReadPhoto({path, absl::OkStatus()}, options.run.sender.max_file_size);
      },
      [&](absl::string_view text) { return file.Append(text); });
  return written.ok() ? file.Commit() : written;
}

std::string Text(const SimilarOptions& options, const SimilarityRanking& ranking) {
  const cli::Terminal terminal = cli::DescribeTerminal(STDOUT_FILENO);
  switch (options.format) {
    case ResultFormat::kTable:
      return SimilarTable(ranking.photos(), terminal);
    case ResultFormat::kJson:
      return SimilarJson(options.query, ranking);
    case ResultFormat::kCsv:
      return SimilarCsv(ranking.photos(), terminal);
  }
  return "";
}

}  // namespace

ExitCode RunSimilar(const SimilarOptions& options) {
  const auto server = ServerConnection::Make(options.run.server);
  if (!server.ok()) {
    PrintError(server.status().message());
    return kUsageError;
  }
  if (auto model = server->GetModel(options.run.sender.request.model()); !model.ok()) {
    PrintError(model.status().message());
    return kFailed;
  }
  std::optional<cli::AtomicFile> html;
  if (!options.html.empty()) {
    auto file = cli::AtomicFile::Create(options.html);
    if (!file.ok()) {
      PrintError(file.status().message());
      return kFailed;
    }
    html.emplace(*std::move(file));
  }

  PhotoRunOptions run = options.run;
  run.paths.insert(run.paths.begin(), options.query);
  SimilarityRanking ranking(options.top);
  bool is_query = true;
  size_t compared = 0;
  const PhotoRunSummary summary = RunPhotos(run, *server, [&](PhotoResult& result) {
    if (is_query) {
      is_query = false;
      absl::Status status =
          result.answer.ok() ? ranking.SetQuery(*result.answer) : result.answer.status();
      if (status.ok()) return status;
      return absl::InvalidArgumentError(
          absl::StrCat("the query ", options.query, ": ", status.message()));
    }
    if (!result.answer.ok() || IsSameFile(result.file, options.query)) return absl::OkStatus();
    absl::Status added = ranking.Add(result.file, *result.answer);
    if (absl::IsFailedPrecondition(added)) return added;
    if (added.ok()) {
      ++compared;
    } else {
      result.answer = added;
    }
    return absl::OkStatus();
  });
  if (!summary.status.ok()) return ExitCodeOf(summary);
  if (compared == 0) {
    PrintError("nothing to compare with: no other photo was found and answered");
    return kFailed;
  }
  if (const absl::Status written = cli::WriteAll(STDOUT_FILENO, Text(options, ranking));
      !written.ok()) {
    if (!absl::IsAborted(written)) PrintError(written.message());
    return kFailed;
  }
  if (html.has_value()) {
    const SimilarPage page = {
        .query_file = options.query, .ranking = &ranking, .compared = compared};
    if (const absl::Status written = WritePage(options, page, *html); !written.ok()) {
      PrintError(written.message());
      return kFailed;
    }
  }
  return ExitCodeOf(summary);
}

std::string SimilarTable(const std::vector<SimilarPhoto>& photos, const cli::Terminal& terminal) {
  const int rank_columns = static_cast<int>(absl::StrCat(photos.size()).size());
  std::string text;
  for (size_t i = 0; i < photos.size(); ++i) {
    const double similarity = photos[i].similarity;
    absl::StrAppendFormat(&text, "  %*d  %7.4f  %s  %s\n", rank_columns, i + 1, similarity,
                          ShareBar(static_cast<float>(similarity), kBarColumns, terminal.utf8),
                          cli::Printable(photos[i].file));
  }
  return text;
}

std::string SimilarJson(const std::string& query, const SimilarityRanking& ranking) {
  std::string lines;
  for (size_t i = 0; i < ranking.photos().size(); ++i) {
    const SimilarPhoto& photo = ranking.photos()[i];
    JsonObject line;
    line.AddString("query", query)
        .AddCount("rank", i + 1)
        .Add("similarity", SimilarityText(photo.similarity))
        .AddString("file", photo.file)
        .AddString("model", ranking.query().model())
        .AddString("model_version", ranking.query().model_version());
    absl::StrAppend(&lines, line.Text(), "\n");
  }
  return lines;
}

std::string SimilarCsv(const std::vector<SimilarPhoto>& photos, const cli::Terminal& terminal) {
  std::string lines = "rank,similarity,file\n";
  for (size_t i = 0; i < photos.size(); ++i) {
    const std::string file = terminal.is_terminal ? cli::Printable(photos[i].file) : photos[i].file;
    absl::StrAppend(&lines, i + 1, ",", SimilarityText(photos[i].similarity), ",", CsvField(file),
                    "\n");
  }
  return lines;
}

}  // namespace dla::client
