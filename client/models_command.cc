#include "client/models_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text.h"
#include "client/json_text.h"
#include "client/server_connection.h"

namespace dla::client {
namespace {

using Row = std::vector<std::string>;

std::string InputText(const dla::v1::Model& model) {
  return absl::StrCat(model.input_width(), "x", model.input_height());
}

// Cells in columns, all but the last filled up with spaces.
std::string Columns(const std::vector<Row>& rows) {
  std::vector<int> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], cli::DisplayWidth(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i)
      absl::StrAppend(&text, cli::PadColumns(row[i], widths[i] + 2));
    absl::StrAppend(&text, row.back(), "\n");
  }
  return text;
}

ExitCode Print(const absl::Status& status, const std::string& text) {
  if (!status.ok()) {
    PrintError(status.message());
    return kFailed;
  }
  return cli::WriteAll(STDOUT_FILENO, text).ok() ? kAllWell : kFailed;
}

}  // namespace

std::string ModelsTable(const std::vector<dla::v1::Model>& models) {
  std::vector<Row> rows = {{"NAME", "VERSION", "ARCHITECTURE", "CLASSES", "INPUT", "PRECISION",
                            "DEVICE", "BATCH", "REPLICAS"}};
  for (const dla::v1::Model& model : models) {
    rows.push_back({cli::Printable(model.name()), cli::Printable(model.version()),
                    cli::Printable(model.architecture()), absl::StrCat(model.num_classes()),
                    InputText(model), cli::Printable(model.precision()),
                    cli::Printable(model.device()), absl::StrCat(model.max_batch_size()),
                    absl::StrCat(model.replicas())});
  }
  return Columns(rows);
}

std::string ModelDetails(const dla::v1::Model& model) {
  std::string text = Columns(
      {{"name", cli::Printable(model.name())},
       {"version", cli::Printable(model.version())},
       {"architecture", cli::Printable(model.architecture())},
       {"parameters", absl::StrFormat("%.2f M", static_cast<double>(model.parameters()) / 1e6)},
       {"input", absl::StrCat(InputText(model), " pixels")},
       {"embedding", absl::StrCat(model.embedding_size(), " values")},
       {"precision", cli::Printable(model.precision())},
       {"device", cli::Printable(model.device())},
       {"largest batch", absl::StrCat(model.max_batch_size())},
       {"replicas", absl::StrCat(model.replicas())},
       {"classes", absl::StrCat(model.num_classes())}});
  const int columns = static_cast<int>(absl::StrCat(model.labels_size()).size());
  for (int i = 0; i < model.labels_size(); ++i) {
    absl::StrAppendFormat(&text, "  %*d  %s\n", columns, i, cli::Printable(model.labels(i)));
  }
  return text;
}

std::string ModelJson(const dla::v1::Model& model) {
  JsonObject json;
  json.AddString("name", model.name())
      .AddString("version", model.version())
      .AddString("architecture", model.architecture())
      .AddCount("num_classes", model.num_classes())
      .AddCount("embedding_size", model.embedding_size())
      .AddCount("parameters", model.parameters())
      .AddCount("input_height", model.input_height())
      .AddCount("input_width", model.input_width())
      .AddString("precision", model.precision())
      .AddString("device", model.device())
      .AddCount("max_batch_size", model.max_batch_size())
      .AddCount("replicas", model.replicas());
  std::string labels;
  for (const std::string& label : model.labels()) {
    absl::StrAppend(&labels, labels.empty() ? "" : ",", JsonString(label));
  }
  if (!labels.empty()) json.Add("labels", absl::StrCat("[", labels, "]"));
  return json.Text() + "\n";
}

ExitCode RunModels(const ModelsOptions& options) {
  const auto server = ServerConnection::Make(options.server);
  if (!server.ok()) {
    PrintError(server.status().message());
    return kUsageError;
  }
  const auto models = server->ListModels();
  if (!models.ok()) return Print(models.status(), "");
  if (!options.json) return Print(absl::OkStatus(), ModelsTable(*models));
  std::string lines;
  for (const dla::v1::Model& model : *models) absl::StrAppend(&lines, ModelJson(model));
  return Print(absl::OkStatus(), lines);
}

ExitCode RunModel(const ModelsOptions& options) {
  const auto server = ServerConnection::Make(options.server);
  if (!server.ok()) {
    PrintError(server.status().message());
    return kUsageError;
  }
  const auto model = server->GetModel(options.name);
  if (!model.ok()) return Print(model.status(), "");
  return Print(absl::OkStatus(), options.json ? ModelJson(*model) : ModelDetails(*model));
}

}  // namespace dla::client
