#include "client/bench_report.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/text.h"
#include "client/histogram_text.h"
#include "client/json_text.h"

namespace dla::client {
namespace {

constexpr int kTableBins = 20;
constexpr int kJsonBins = 100;

using NamedMs = std::pair<absl::string_view, double>;

std::vector<NamedMs> Statistics(const LatencyHistogram& latency) {
  return {{"min", latency.MinMs()},
          {"p50", latency.PercentileMs(0.5)},
          {"p90", latency.PercentileMs(0.9)},
          {"p95", latency.PercentileMs(0.95)},
          {"p99", latency.PercentileMs(0.99)},
          {"p99.9", latency.PercentileMs(0.999)},
          {"max", latency.MaxMs()},
          {"mean", latency.MeanMs()}};
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string Count(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

std::string Rate(double per_second) {
  return absl::StrFormat("%.*f images/s", per_second < 100 ? 1 : 0, per_second);
}

absl::string_view Name(Arrivals arrivals) {
  return arrivals == Arrivals::kPoisson ? "poisson" : "constant";
}

std::string Headline(const BenchSetting& setting, const BenchFigures& figures) {
  const LoadPlan& plan = setting.plan;
  std::string load = plan.concurrency > 0
                         ? absl::StrFormat("%d in flight", plan.concurrency)
                         : absl::StrFormat("%g a second (%s)", plan.rate, Name(plan.arrivals));
  return absl::StrFormat("%s version %s at %s\n%s on %s, %s, %.1f s after %g s of warm-up%s\n",
                         cli::Printable(setting.model), cli::Printable(setting.model_version),
                         cli::Printable(setting.address), load,
                         Count(setting.connections, "connection"),
                         Count(static_cast<int64_t>(setting.photos), "photo"), figures.seconds,
                         Seconds(plan.warm_up), figures.interrupted ? "; ended early" : "");
}

std::string MsJson(const LatencyHistogram& latency) {
  if (latency.count() == 0) return "null";
  JsonObject json;
  for (const auto& [name, ms] : Statistics(latency)) {
    json.Add(name == "p99.9" ? "p99_9" : name, JsonMilliseconds(ms));
  }
  return json.Text();
}

}  // namespace

std::string BenchTable(const BenchSetting& setting, const BenchFigures& figures,
                       const cli::Terminal& terminal) {
  const int64_t answered = figures.latency.count();
  const int64_t most = std::max({answered, figures.failed, figures.unanswered, figures.late});
  const int count_columns = static_cast<int>(absl::StrCat(most).size());
  std::string text = Headline(setting, figures) + "\n";
  const auto add = [&](absl::string_view what, int64_t count, absl::string_view explanation) {
    const std::string line =
        absl::StrFormat("%-8s  %*d  %s", what, count_columns, count, explanation);
    const absl::string_view ellipsis = terminal.utf8 ? "…" : "...";
    absl::StrAppend(
        &text, terminal.is_terminal ? cli::FitColumns(line, terminal.columns - 1, ellipsis) : line,
        "\n");
  };
  add("answered", answered, Rate(figures.images_per_second()));
  for (const auto& [code, errors] : figures.errors) {
    add("failed", errors.count,
        absl::StrCat(absl::StatusCodeToString(code), ": ", cli::Printable(errors.first_message)));
  }
  if (figures.unanswered > 0) add("given up", figures.unanswered, "were still on their way");
  if (figures.late > 0) add("late", figures.late, "sent more than 1 ms after they were due");
  if (answered == 0) return text;

  const bool open = setting.plan.concurrency == 0;
  std::string heads, latency, since_sent;
  const std::vector<NamedMs> row = Statistics(figures.latency);
  const std::vector<NamedMs> sent_row = Statistics(figures.since_sent);
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string a = ShortMs(row[i].second);
    const std::string b = ShortMs(sent_row[i].second);
    const int columns = 1 + static_cast<int>(std::max({size_t{5}, a.size(), open ? b.size() : 0}));
    absl::StrAppendFormat(&heads, "%*s", columns, row[i].first);
    absl::StrAppendFormat(&latency, "%*s", columns, a);
    absl::StrAppendFormat(&since_sent, "%*s", columns, b);
  }
  absl::StrAppend(&text, "\nms          ", heads, "\n", open ? "since due   " : "latency     ",
                  latency, "\n");
  if (open) absl::StrAppend(&text, "since sent  ", since_sent, "\n");
  const auto n = static_cast<double>(answered);
  absl::StrAppendFormat(
      &text, "\nin the server, mean: decode %s ms, queue %s ms, inference %s ms, batch of %.1f\n\n",
      ShortMs(figures.decode_ms / n), ShortMs(figures.queue_ms / n),
      ShortMs(figures.inference_ms / n), figures.batch_size / n);
  return absl::StrCat(text, HistogramText(LatencyBins(figures.latency, kTableBins), terminal));
}

std::string BenchJson(const BenchSetting& setting, const BenchFigures& figures) {
  const LoadPlan& plan = setting.plan;
  const bool open = plan.concurrency == 0;
  const int64_t answered = figures.latency.count();
  JsonObject json;
  json.AddString("mode", open ? "open" : "closed");
  if (open) {
    json.Add("rate", absl::StrFormat("%.15g", plan.rate))
        .AddString("arrivals", Name(plan.arrivals));
  } else {
    json.AddCount("concurrency", static_cast<uint64_t>(plan.concurrency));
  }
  std::string errors;
  for (const auto& [code, error] : figures.errors) {
    absl::StrAppend(&errors, errors.empty() ? "" : ",",
                    JsonObject()
                        .AddString("code", absl::StatusCodeToString(code))
                        .AddCount("count", static_cast<uint64_t>(error.count))
                        .AddString("first_message", error.first_message)
                        .Text());
  }
  std::string bins;
  for (const LatencyBin& bin : LatencyBins(figures.latency, kJsonBins)) {
    absl::StrAppend(&bins, bins.empty() ? "" : ",",
                    JsonObject()
                        .Add("from_ms", JsonMilliseconds(bin.from_ms))
                        .Add("to_ms", JsonMilliseconds(bin.to_ms))
                        .AddCount("count", static_cast<uint64_t>(bin.count))
                        .Text());
  }
  const auto n = static_cast<double>(answered);
  json.AddString("server", setting.address)
      .AddString("model", setting.model)
      .AddString("model_version", setting.model_version)
      .AddCount("connections", static_cast<uint64_t>(setting.connections))
      .AddCount("photos", setting.photos)
      .Add("warm_up_s", JsonMilliseconds(Seconds(plan.warm_up)))
      .Add("seconds", JsonMilliseconds(figures.seconds))
      .Add("interrupted", figures.interrupted ? "true" : "false")
      .AddCount("answered", static_cast<uint64_t>(answered))
      .AddCount("failed", static_cast<uint64_t>(figures.failed))
      .AddCount("unanswered", static_cast<uint64_t>(figures.unanswered))
      .AddCount("late", static_cast<uint64_t>(figures.late))
      .Add("images_per_second", JsonMilliseconds(figures.images_per_second()))
      .Add("latency_ms", MsJson(figures.latency))
      .Add("since_sent_ms", MsJson(figures.since_sent));
  json.Add("server_ms", answered == 0
                            ? "null"
                            : JsonObject()
                                  .Add("decode", JsonMilliseconds(figures.decode_ms / n))
                                  .Add("queue", JsonMilliseconds(figures.queue_ms / n))
                                  .Add("inference", JsonMilliseconds(figures.inference_ms / n))
                                  .Text())
      .Add("mean_batch_size", answered == 0 ? "null" : JsonMilliseconds(figures.batch_size / n))
      .Add("errors", absl::StrCat("[", errors, "]"))
      .Add("histogram", absl::StrCat("[", bins, "]"));
  return json.Text() + "\n";
}

std::string BenchProgress(const BenchFigures& figures) {
  if (figures.seconds == 0) return "warming up";
  std::string text =
      absl::StrFormat("%.0f s  %s", figures.seconds, Rate(figures.images_per_second()));
  if (figures.latency.count() > 0) {
    absl::StrAppend(&text, "  p50 ", ShortMs(figures.latency.PercentileMs(0.5)), " ms  p99 ",
                    ShortMs(figures.latency.PercentileMs(0.99)), " ms");
  }
  if (figures.failed > 0) absl::StrAppend(&text, "  ", figures.failed, " failed");
  return text;
}

}  // namespace dla::client
