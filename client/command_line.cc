#include "client/command_line.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/generate.h"
#include "cli/terminal.h"
#include "client/bench_command.h"
#include "client/classify_command.h"
#include "client/embed_command.h"
#include "client/health_command.h"
#include "client/models_command.h"
#include "client/server_connection.h"
#include "client/similar_command.h"

namespace dla::client {
namespace {

constexpr char kServerHelp[] = "Where the server listens for gRPC: HOST:PORT";
constexpr char kModelHelp[] = "Name of a served model; the server's first one if\nleft out";

constexpr char kPathHelp[] =
    "Photos, folders of photos, or - for one photo from\n"
    "standard input. In folders, and all folders below, files\n"
    "ending in .jpg, .jpeg, .png or .webp are taken in the\n"
    "order of their names; hidden ones are left out";

constexpr char kFooter[] = R"(Examples:
  dla-client classify dog.jpg
  dla-client classify --format csv photos/ > labels.csv
  curl -s https://example.org/cat.jpg | dla-client classify -
  dla-client embed photos/ --out photos.npy
  dla-client similar rose.jpg photos/ --html similar.html
  dla-client bench photos/ --rate 200 --duration 30
  dla-client models --server gpu-box:8001

Exit codes: 0 all well; 1 some photos failed, or the server is not there;
2 wrong usage; 130 interrupted.
`dla-client COMMAND --help` tells the options of a command.)";

constexpr char kClassifyFooter[] =
    R"(Formats, printed in the order of the photos as the answers come:
  table  for people: rank, probability, label and id, aligned. On a terminal,
         long labels are cut to its width
  json   one JSON object per line: file, model, model_version, classes (index,
         label, id, probability), timing_ms (decode, queue, inference),
         batch_size; for a photo that failed: file, error (code, message)
  csv    file,rank,index,label,id,probability with a header line, quoted as
         RFC 4180 says, lines ending in LF
Photos that fail do not end the run. They are told on standard error at the
end, and the exit code is 1.)";

constexpr char kEmbedFooter[] =
    R"(Row i of the matrix belongs to line i of the file of names, which lies beside it
(x.names.txt for x.npy). Photos that fail are left out of both and told on
standard error, and the exit code is 1. Nothing appears under these names before
all is done.

In Python: numpy.load("x.npy"), open("x.names.txt").read().splitlines())";

constexpr char kSimilarFooter[] =
    R"(Similarity is the cosine of the angle between the photos' embeddings: 1 for the
same direction, 0 for unrelated ones. QUERY itself is left out where it lies
among the photos. Formats:
  table  rank, similarity and path
  json   one JSON object per line: query, rank, similarity, file, model,
         model_version
  csv    rank,similarity,file with a header line
The sheet of --html holds the photos themselves, at most 64 MiB of them, needs
no other file and runs no script.
Photos that fail do not end the run: they are told on standard error, and the
exit code is 1. A QUERY that fails and a model that changes meanwhile do.)";

constexpr char kBenchFooter[] =
    R"(Closed loop (--concurrency): the next request is sent when one is answered, so a
slow server is asked less. Open loop (--rate): requests are due at times that do
not depend on the answers, and latency counts from when a request was due,
however late it could be sent: a server that stalls cannot hide it.
Requests that fail are counted by code and not sent again; refusals
(RESOURCE_EXHAUSTED) are among them. Latencies are those of requests that
succeeded; percentiles are off by at most 0.4 %. What is sent in the warm-up is
not counted. Exit codes: 0 all answered; 1 some failed; 130 ended by Ctrl-C,
after the figures so far.

json is one object: mode (closed, open), concurrency or rate and arrivals,
server, model, model_version, connections, photos, warm_up_s, seconds,
interrupted, answered, failed, unanswered (given up at Ctrl-C), late (sent over
1 ms after they were due), images_per_second, latency_ms and since_sent_ms (min,
p50, p90, p95, p99, p99_9, max, mean; null if none was answered), server_ms
(means of decode, queue, inference), mean_batch_size (that a photo was in),
errors (code, count, first_message), histogram (from_ms, to_ms, count; by
latency_ms))";

constexpr char kHealthFooter[] =
    R"(Prints SERVING, NOT_SERVING or UNKNOWN. The exit code is 0 for SERVING and 1
for everything else, also when no server answers.)";

// Seconds in [0.001, 86400]; CLI::Range would let NaN pass.
std::string CheckTimeout(const std::string& text) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds) && seconds >= 0.001 && seconds <= 86400) return "";
  return "\"" + text + "\" is no number of seconds from 0.001 to 86400";
}

std::string CheckRate(const std::string& text) {
  double rate = 0;
  if (absl::SimpleAtod(text, &rate) && rate >= 0.001 && rate <= 1e6) return "";
  return "\"" + text + "\" is no number of requests a second from 0.001 to 1000000";
}

std::string CheckWarmUp(const std::string& text) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds) && seconds >= 0 && seconds <= 86400) return "";
  return "\"" + text + "\" is no number of seconds from 0 to 86400";
}

std::string CheckFileSize(const std::string& text) {
  uint64_t bytes = 0;
  if (absl::SimpleAtoi(text, &bytes) && bytes >= 1 && bytes <= (uint64_t{1} << 30)) return "";
  return "\"" + text + "\" is no size from 1 byte to 1G";
}

std::string CheckNpyName(const std::string& text) {
  if (absl::EndsWith(text, ".npy")) return "";
  return "\"" + text + "\" does not end in .npy";
}

// What is not parsed into its final type.
struct RunText {
  double timeout = 60;
  uint64_t max_file_size = uint64_t{32} << 20;
  std::string model;
  uint32_t top_k = 0;  // the default of the server
  bool normalize = false;
  bool bulk = false;
};

void AddServer(CLI::App& command, ServerOptions& server) {
  command.add_option("-s,--server", server.address, kServerHelp)
      ->envname("DLA_SERVER")
      ->option_text("HOST:PORT=localhost:8001 (or $DLA_SERVER)");
  command.add_flag("--tls", server.tls, "Talk TLS; the next three imply it");
  command
      .add_option("--tls-ca", server.tls_ca,
                  "Who must have signed the server's certificate, in PEM\n"
                  "format; the system's authorities if left out")
      ->option_text("FILE");
  command
      .add_option("--tls-cert", server.tls_cert,
                  "The certificate to show to the server, if it asks for\none, in PEM format")
      ->option_text("FILE");
  command.add_option("--tls-key", server.tls_key, "Its key")->option_text("FILE");
  command
      .add_option("--token-file", server.token_file,
                  "The first line is sent as bearer token. Never on the\n"
                  "command line, which everybody on the machine sees")
      ->option_text("FILE (or $DLA_TOKEN)");
}

void AddModel(CLI::App& command, RunText& text) {
  command.add_option("-m,--model", text.model, kModelHelp)->option_text("NAME");
}

void AddBulk(CLI::App& command, RunText& text) {
  command.add_flag("--bulk", text.bulk,
                   "Work in the background: photos that somebody waits\n"
                   "for go first");
}

void AddMaxFileSize(CLI::App& command, RunText& text) {
  command
      .add_option("--max-file-size", text.max_file_size,
                  "Larger files fail without being sent. K, M and G are\n"
                  "powers of 1024")
      ->check(CheckFileSize)
      ->transform(CLI::AsSizeValue(false))
      ->option_text("BYTES=32M");
}

void AddTopK(CLI::App& command, RunText& text) {
  command.add_option("-k,--top-k", text.top_k, "How many classes to tell for each photo")
      ->check(CLI::Range(1u, std::numeric_limits<uint32_t>::max()))
      ->option_text("K=5 (or all there are)");
}

void AddFormat(CLI::App& command, ResultFormat& format) {
  command
      .add_option_function<std::string>(
          "-f,--format",
          [&format](const std::string& name) {
            format = name == "json"  ? ResultFormat::kJson
                     : name == "csv" ? ResultFormat::kCsv
                                     : ResultFormat::kTable;
          },
          "table, json or csv; see below")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->option_text("FORMAT=table");
}

void AddRun(CLI::App& command, PhotoRunOptions& run, RunText& text) {
  command.add_option("PATH", run.paths, kPathHelp)->required()->option_text("...");
  AddServer(command, run.server);
  AddModel(command, text);
  command
      .add_option("-c,--concurrency", run.sender.concurrency,
                  "How many photos are on their way at the same time")
      ->check(CLI::Range(1, 1024))
      ->option_text("N=8");
  command
      .add_option("--timeout", text.timeout,
                  "Seconds for each photo. While the server is busy or\n"
                  "restarts, it is asked again until they have passed")
      ->check(CheckTimeout)
      ->option_text("SECONDS=60");
  AddBulk(command, text);
  AddMaxFileSize(command, text);
}

// What is not parsed into its final type.
struct BenchText {
  double warm_up = 1;
  double duration = 0;
  bool embedding = false;
};

void AddBench(CLI::App& command, BenchOptions& bench, RunText& text, BenchText& bench_text) {
  command.add_option("PATH", bench.paths, kPathHelp)->required()->option_text("...");
  AddServer(command, bench.server);
  AddModel(command, text);
  CLI::Option* concurrency =
      command
          .add_option("-c,--concurrency", bench.load.concurrency,
                      "Closed loop: so many requests on their way at any\ntime")
          ->check(CLI::Range(1, 10000))
          ->option_text("N=8");
  CLI::Option* rate =
      command
          .add_option("-r,--rate", bench.load.rate,
                      "Open loop: so many requests a second, whatever the\nserver does")
          ->check(CheckRate)
          ->excludes(concurrency)
          ->option_text("R");
  command
      .add_option_function<std::string>(
          "--arrivals",
          [&bench](const std::string& name) {
            bench.load.arrivals = name == "constant" ? Arrivals::kConstant : Arrivals::kPoisson;
          },
          "When requests are due at that rate: poisson, at random,\n"
          "or constant, at equal distances")
      ->check(CLI::IsMember({"poisson", "constant"}))
      ->needs(rate)
      ->option_text("HOW=poisson");
  command
      .add_option("--max-in-flight", bench.load.max_in_flight,
                  "Open loop: no more requests than this are on their way;\n"
                  "what is due meanwhile is sent late")
      ->check(CLI::Range(1, 10000))
      ->needs(rate)
      ->option_text("N=1024");
  command.add_option("--seed", bench.load.seed, "Of the random times")
      ->needs(rate)
      ->option_text("N=1");
  command
      .add_option("-d,--duration", bench_text.duration,
                  "Seconds measured; without a limit if --requests says\nwhen to end")
      ->check(CheckTimeout)
      ->option_text("SECONDS=10");
  command.add_option("-n,--requests", bench.load.requests, "End after so many measured requests")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000'000}))
      ->option_text("N");
  command.add_option("--warmup", bench_text.warm_up, "Seconds of load before measuring")
      ->check(CheckWarmUp)
      ->option_text("SECONDS=1");
  command.add_option("--connections", bench.connections, "Send over so many connections, in turn")
      ->check(CLI::Range(1, 256))
      ->option_text("N=1");
  AddTopK(command, text);
  command.add_flag("--embedding", bench_text.embedding, "Ask for the embeddings, too");
  AddBulk(command, text);
  command.add_option("--timeout", text.timeout, "Seconds for each request, from when it is due")
      ->check(CheckTimeout)
      ->option_text("SECONDS=60");
  AddMaxFileSize(command, text);
  command
      .add_option_function<std::string>(
          "-f,--format", [&bench](const std::string& name) { bench.json = name == "json"; },
          "table or json; see below")
      ->check(CLI::IsMember({"table", "json"}))
      ->option_text("FORMAT=table");
  command.footer(kBenchFooter);
}

void Complete(BenchOptions& bench, const RunText& text, const BenchText& bench_text) {
  if (bench.load.rate == 0 && bench.load.concurrency == 0) bench.load.concurrency = 8;
  const auto nanoseconds = [](double s) { return absl::ToChronoNanoseconds(absl::Seconds(s)); };
  bench.load.warm_up = nanoseconds(bench_text.warm_up);
  if (bench_text.duration > 0) {
    bench.load.duration = nanoseconds(bench_text.duration);
  } else if (bench.load.requests == 0) {
    bench.load.duration = std::chrono::seconds(10);
  }
  bench.timeout = absl::Seconds(text.timeout);
  bench.max_file_size = text.max_file_size;
  bench.request.set_model(text.model);
  bench.request.set_top_k(text.top_k);
  bench.request.set_include_embedding(bench_text.embedding);
  if (text.bulk) bench.request.set_priority(v1::PRIORITY_BULK);
}

void Complete(PhotoRunOptions& run, const RunText& text) {
  run.sender.timeout = absl::Seconds(text.timeout);
  run.sender.max_file_size = text.max_file_size;
  run.sender.request.set_model(text.model);
  if (text.bulk) run.sender.request.set_priority(v1::PRIORITY_BULK);
  if (std::count(run.paths.begin(), run.paths.end(), "-") > 1) {
    throw CLI::ValidationError("PATH", "standard input (-) can be read only once");
  }
}

ExitCode Run(CLI::App& app, int argc, const char* const* argv) {
  RunText text;
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", "dla-client " DLA_VERSION);
  app.get_formatter()->column_width(32);

  ClassifyOptions classify;
  CLI::App* classify_command = app.add_subcommand("classify", "Tells what is on photos");
  AddRun(*classify_command, classify.run, text);
  AddTopK(*classify_command, text);
  AddFormat(*classify_command, classify.format);
  classify_command->footer(kClassifyFooter);

  EmbedOptions embed;
  CLI::App* embed_command =
      app.add_subcommand("embed", "Writes the photos' embeddings as a NumPy file");
  AddRun(*embed_command, embed.run, text);
  embed_command->add_option("-o,--out", embed.out, "The file to write; ends in .npy")
      ->required()
      ->check(CheckNpyName)
      ->option_text("FILE");
  embed_command->add_flag("--normalize", text.normalize, "Scale each embedding to L2 length 1");
  embed_command->footer(kEmbedFooter);

  SimilarOptions similar;
  CLI::App* similar_command =
      app.add_subcommand("similar", "Finds the photos that look most like a given one");
  similar_command
      ->add_option("QUERY", similar.query, "The photo to compare with; - is standard input")
      ->required()
      ->option_text(" ");
  AddRun(*similar_command, similar.run, text);
  similar_command->add_option("-n,--top", similar.top, "How many photos to tell")
      ->check(CLI::Range(1, 1000))
      ->option_text("N=10");
  AddFormat(*similar_command, similar.format);
  similar_command
      ->add_option("--html", similar.html, "Also write a sheet with the photos, for a browser")
      ->option_text("FILE");
  similar_command->footer(kSimilarFooter);

  BenchOptions bench;
  BenchText bench_text;
  CLI::App* bench_command =
      app.add_subcommand("bench", "Puts the server under load and measures it");
  AddBench(*bench_command, bench, text, bench_text);

  ModelsOptions models;
  const auto add_format = [&models](CLI::App& command) {
    command
        .add_option_function<std::string>(
            "-f,--format", [&models](const std::string& name) { models.json = name == "json"; },
            "table or json")
        ->check(CLI::IsMember({"table", "json"}))
        ->option_text("FORMAT=table");
  };
  CLI::App* models_command =
      app.add_subcommand("models", "Lists the models that the server serves");
  AddServer(*models_command, models.server);
  add_format(*models_command);
  CLI::App* model_command =
      app.add_subcommand("model", "Tells all about one model, its labels included");
  model_command
      ->add_option("NAME", models.name, "A served model; the server's first one if left out")
      ->option_text(" ");
  AddServer(*model_command, models.server);
  add_format(*model_command);

  HealthOptions health;
  double health_timeout = absl::ToDoubleSeconds(health.timeout);
  CLI::App* health_command =
      app.add_subcommand("health", "Tells whether the server takes requests");
  health_command
      ->add_option("-m,--model", health.model,
                   "Ask for this served model; for the whole server if\nleft out")
      ->option_text("NAME");
  health_command->add_option("--timeout", health_timeout, "Seconds to wait for the answer")
      ->check(CheckTimeout)
      ->option_text("SECONDS=2");
  AddServer(*health_command, health.server);
  health_command->footer(kHealthFooter);

  std::string generate;
  cli::AddGenerateOption(app, generate);
  app.footer(kFooter);  // after the commands, which would take it over

  app.parse(argc, argv);
  if (!generate.empty()) {
    const std::string page = cli::Generate(app, generate, DLA_VERSION);
    return cli::WriteAll(STDOUT_FILENO, page).ok() ? kAllWell : kFailed;
  }
  if (app.get_subcommands().empty()) throw CLI::RequiredError("A command");

  if (classify_command->parsed()) {
    Complete(classify.run, text);
    classify.run.sender.request.set_top_k(text.top_k);
    return RunClassify(classify);
  }
  if (embed_command->parsed()) {
    Complete(embed.run, text);
    embed.run.sender.request.set_top_k(1);
    embed.run.sender.request.set_include_embedding(true);
    embed.run.sender.request.set_normalize_embedding(text.normalize);
    return RunEmbed(embed);
  }
  if (similar_command->parsed()) {
    Complete(similar.run, text);
    if (similar.query == "-" &&
        std::count(similar.run.paths.begin(), similar.run.paths.end(), "-")) {
      throw CLI::ValidationError("PATH", "standard input (-) can be read only once");
    }
    similar.run.sender.request.set_top_k(1);
    similar.run.sender.request.set_include_embedding(true);
    similar.run.sender.request.set_normalize_embedding(true);
    return RunSimilar(similar);
  }
  if (bench_command->parsed()) {
    Complete(bench, text, bench_text);
    return RunBench(bench);
  }
  if (health_command->parsed()) {
    health.timeout = absl::Seconds(health_timeout);
    return RunHealth(health);
  }
  return models_command->parsed() ? RunModels(models) : RunModel(models);
}

}  // namespace

ExitCode RunCommandLine(int argc, const char* const* argv) {
  CLI::App app("Classifies photos with a dla-server.", "dla-client");
  try {
    return Run(app, argc, argv);
  } catch (const CLI::Success& wish) {  // --help, --version
    app.exit(wish);
    return kAllWell;
  } catch (const CLI::Error& error) {
    PrintError(absl::StrCat(error.what(), " (see dla-client --help)"));
    return kUsageError;
  }
}

}  // namespace dla::client
