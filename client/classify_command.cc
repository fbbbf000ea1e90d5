#include "client/classify_command.h"

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "cli/terminal.h"
#include "client/result_format.h"

namespace dla::client {

ExitCode RunClassify(const ClassifyOptions& options) {
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
  const cli::Terminal terminal = cli::DescribeTerminal(STDOUT_FILENO);
  bool first = true;
  const PhotoRunSummary summary = RunPhotos(options.run, server, [&](PhotoResult& result) {
    std::string text;
    switch (options.format) {
      case ResultFormat::kTable:
        text = TableText(result, terminal);
        if (!first && !text.empty()) text = absl::StrCat("\n", text);
        break;
      case ResultFormat::kJson:
        text = JsonLine(result);
        break;
      case ResultFormat::kCsv:
        text = absl::StrCat(first ? kCsvHeader : "", CsvLines(result, terminal));
        break;
    }
    if (!text.empty()) first = false;
    return cli::WriteAll(STDOUT_FILENO, text);
  });
  return ExitCodeOf(summary);
}

}  // namespace dla::client
