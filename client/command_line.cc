#include "client/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/classify_command.h"
#include "client/embed_command.h"
#include "client/models_command.h"
#include "client/server_connection.h"
#include "client/terminal.h"

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

// Seconds in [0.001, 86400]; CLI::Range would let NaN pass.
std::string CheckTimeout(const std::string& text) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds) && seconds >= 0.001 && seconds <= 86400) return "";
  return "\"" + text + "\" is no number of seconds from 0.001 to 86400";
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

void AddRun(CLI::App& command, PhotoRunOptions& run, RunText& text) {
  command.add_option("PATH", run.paths, kPathHelp)->required()->option_text("...");
  AddServer(command, run.server);
  command.add_option("-m,--model", text.model, kModelHelp)->option_text("NAME");
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
  command.add_flag("--bulk", text.bulk,
                   "Work in the background: photos that somebody waits\n"
                   "for go first");
  command
      .add_option("--max-file-size", text.max_file_size,
                  "Larger files fail without being sent. K, M and G are\n"
                  "powers of 1024")
      ->check(CheckFileSize)
      ->transform(CLI::AsSizeValue(false))
      ->option_text("BYTES=32M");
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
  classify_command->add_option("-k,--top-k", text.top_k, "How many classes to tell for each photo")
      ->check(CLI::Range(1u, std::numeric_limits<uint32_t>::max()))
      ->option_text("K=5 (or all there are)");
  classify_command
      ->add_option_function<std::string>(
          "-f,--format",
          [&classify](const std::string& name) {
            classify.format = name == "json"  ? ResultFormat::kJson
                              : name == "csv" ? ResultFormat::kCsv
                                              : ResultFormat::kTable;
          },
          "table, json or csv; see below")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->option_text("FORMAT=table");
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

  app.footer(kFooter);  // after the commands, which would take it over

  app.parse(argc, argv);
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
