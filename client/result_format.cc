#include "client/result_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text.h"
#include "client/duration_ms.h"
#include "client/json_text.h"

namespace dla::client {
namespace {

constexpr int kBarColumns = 20;
constexpr int kMinLabelColumns = 10;

std::string LabelOf(const dla::v1::Class& c) {
  return c.label().empty() ? absl::StrCat("class ", c.index()) : cli::Printable(c.label());
}

std::string ClassJson(const dla::v1::Class& c) {
  return JsonObject()
      .AddCount("index", c.index())
      .AddString("label", c.label())
      .AddString("id", c.id())
      .Add("probability", JsonNumber(c.probability()))
      .Text();
}

}  // namespace

std::string ShareBar(float share, int columns, bool utf8) {
  constexpr std::array<absl::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const float clipped = share > 0 ? std::min(share, 1.0f) : 0;  // also for NaN
  const int steps = utf8 ? 8 : 1;
  const int filled = static_cast<int>(std::lround(clipped * static_cast<float>(columns * steps)));
  std::string bar;
  for (int i = 0; i < filled / steps; ++i) absl::StrAppend(&bar, utf8 ? "█" : "#");
  if (utf8) absl::StrAppend(&bar, kEighths[filled % steps]);
  const int used = (filled + steps - 1) / steps;
  return absl::StrCat(bar, std::string(columns - used, ' '));
}

std::string TableText(const PhotoResult& result, const cli::Terminal& terminal) {
  if (!result.answer.ok()) return "";
  const auto& classes = result.answer->classes();
  std::vector<std::string> labels;
  int label_columns = 0;
  int id_columns = 0;
  for (const auto& c : classes) {
    labels.push_back(LabelOf(c));
    label_columns = std::max(label_columns, cli::DisplayWidth(labels.back()));
    id_columns = std::max(id_columns, cli::DisplayWidth(cli::Printable(c.id())));
  }
  const int rank_columns = static_cast<int>(absl::StrCat(classes.size()).size());
  if (terminal.is_terminal) {
    const int taken =
        2 + rank_columns + 2 + 6 + 2 + kBarColumns + 2 + (id_columns > 0 ? 2 + id_columns : 0);
    label_columns = std::min(label_columns, std::max(kMinLabelColumns, terminal.columns - taken));
  }
  const absl::string_view ellipsis = terminal.utf8 ? "…" : "...";
  std::string text = absl::StrCat(cli::Printable(result.file), "\n");
  for (int i = 0; i < classes.size(); ++i) {
    const auto& c = classes[i];
    const std::string label =
        terminal.is_terminal ? cli::FitColumns(labels[i], label_columns, ellipsis) : labels[i];
    absl::StrAppendFormat(&text, "  %*d  %5.1f%%  %s  ", rank_columns, i + 1, c.probability() * 100,
                          ShareBar(c.probability(), kBarColumns, terminal.utf8));
    absl::StrAppend(&text, c.id().empty() ? label : cli::PadColumns(label, label_columns + 2),
                    cli::Printable(c.id()), "\n");
  }
  return text;
}

std::string JsonLine(const PhotoResult& result) {
  JsonObject line;
  line.AddString("file", result.file);
  if (!result.answer.ok()) {
    const absl::Status& status = result.answer.status();
    const std::string error = JsonObject()
                                  .AddString("code", absl::StatusCodeToString(status.code()))
                                  .AddString("message", status.message())
                                  .Text();
    return line.Add("error", error).Text() + "\n";
  }
  const dla::v1::ClassifyResponse& answer = *result.answer;
  std::string classes;
  for (const auto& c : answer.classes()) {
    absl::StrAppend(&classes, classes.empty() ? "" : ",", ClassJson(c));
  }
  const dla::v1::Timing& timing = answer.timing();
  const std::string times = JsonObject()
                                .Add("decode", JsonMilliseconds(DurationMs(timing.decode())))
                                .Add("queue", JsonMilliseconds(DurationMs(timing.queue())))
                                .Add("inference", JsonMilliseconds(DurationMs(timing.inference())))
                                .Text();
  line.AddString("model", answer.model())
      .AddString("model_version", answer.model_version())
      .Add("classes", absl::StrCat("[", classes, "]"))
      .Add("timing_ms", times)
      .AddCount("batch_size", timing.batch_size());
  return line.Text() + "\n";
}

std::string CsvField(absl::string_view text) {
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"') quoted.push_back('"');
    quoted.push_back(c);
  }
  quoted.push_back('"');
  return quoted;
}

std::string CsvLines(const PhotoResult& result, const cli::Terminal& terminal) {
  if (!result.answer.ok()) return "";
  const auto field = [&](absl::string_view text) {
    return terminal.is_terminal ? CsvField(cli::Printable(text)) : CsvField(text);
  };
  std::string lines;
  int rank = 0;
  for (const auto& c : result.answer->classes()) {
    const std::string probability =
        std::isfinite(c.probability()) ? JsonNumber(c.probability()) : "nan";
    absl::StrAppend(&lines, field(result.file), ",", ++rank, ",", c.index(), ",", field(c.label()),
                    ",", field(c.id()), ",", probability, "\n");
  }
  return lines;
}

}  // namespace dla::client
