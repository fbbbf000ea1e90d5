// `dla-client classify`: what is on the photos, as a table, JSON or CSV.
#pragma once

#include "client/photo_run.h"

namespace dla::client {

enum class ResultFormat { kTable, kJson, kCsv };

struct ClassifyOptions {
  PhotoRunOptions run;
  ResultFormat format = ResultFormat::kTable;
};

// Prints the answers to standard output as they come.
ExitCode RunClassify(const ClassifyOptions& options);

}  // namespace dla::client
