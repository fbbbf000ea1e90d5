// `dla-client similar`: which photos look most like a given one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cli/terminal.h"
#include "client/classify_command.h"
#include "client/photo_run.h"
#include "client/similarity_ranking.h"

namespace dla::client {

struct SimilarOptions {
  std::string query;    // a photo; "-" is standard input
  PhotoRunOptions run;  // its paths are where to look
  size_t top = 10;
  ResultFormat format = ResultFormat::kTable;
  std::string html;  // the sheet to write; empty: none
};

// Prints the nearest photos to standard output once all are compared. The query itself is left out
// where it lies among the photos. A photo that fails is told and gives kFailed; a query that fails,
// or a model that changes, ends the run.
ExitCode RunSimilar(const SimilarOptions& options);

// One line for each photo: rank, similarity, a bar, path.
std::string SimilarTable(const std::vector<SimilarPhoto>& photos, const cli::Terminal& terminal);

// One JSON object per line: query, rank, similarity, file, model, model_version.
std::string SimilarJson(const std::string& query, const SimilarityRanking& ranking);

// rank,similarity,file with a header line, quoted as RFC 4180 says.
std::string SimilarCsv(const std::vector<SimilarPhoto>& photos, const cli::Terminal& terminal);

}  // namespace dla::client
