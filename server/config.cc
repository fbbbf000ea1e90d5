#include "server/config.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/generate.h"
#include "model/device.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/help_formatter.h"
#include "server/version.h"
#include "server/yaml_config.h"

namespace dla::server {
namespace {

// CLI11 wants a lambda for every rule that it does not have; both of these end up in --help too.
CLI::Validator Address() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        const size_t colon = value.rfind(':');
        int port = -1;
        if (colon != std::string::npos && colon > 0 &&
            absl::SimpleAtoi(value.substr(colon + 1), &port) && port >= 0 && port <= 65535) {
          return "";
        }
        return absl::StrCat("\"", value, "\" is not HOST:PORT with a port from 0 to 65535");
      },
      "HOST:PORT");
}

CLI::Validator Device() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        return std::string(ParseDevice(value).status().message());
      },
      "auto|cpu|cuda[:N,...]");
}

// "local,size=BYTES" as Triton has it, or "none"; becomes the number of bytes.
CLI::Validator CacheConfig() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        static const std::string kLocal = "local,size=";
        int64_t bytes = 0;
        if (value == "none") {
          value = "0";
          return "";
        }
        if (value.starts_with(kLocal) && absl::SimpleAtoi(value.substr(kLocal.size()), &bytes) &&
            bytes > 0) {
          value = absl::StrCat(bytes);
          return "";
        }
        return absl::StrCat("\"", value, "\" is not none or local,size=BYTES with at least 1 byte");
      },
      "");
}

constexpr int64_t kMost = int64_t{1} << 50;  // of any budget

// A whole number, or "auto", which becomes 0. So does 0 itself where `least` is 0.
CLI::Validator AutoOr(int least, int most) {
  return CLI::Validator(
      [least, most](std::string& value) -> std::string {
        int number = -1;
        if (value == "auto") {
          value = "0";
          return "";
        }
        if (absl::SimpleAtoi(value, &number) && number >= least && number <= most) return "";
        return absl::StrCat("\"", value, "\" is not auto or a whole number from ",
                            std::max(least, 1), " to ", most);
      },
      "");
}

// As gRPC wants a key of text metadata.
CLI::Validator MetadataKey() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        const bool good = std::all_of(value.begin(), value.end(), [](unsigned char c) {
          return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '_' ||
                 c == '.';
        });
        if (good && !value.empty() && !value.ends_with("-bin") && !value.starts_with("grpc-") &&
            value != "authorization") {
          return "";
        }
        return absl::StrCat(Quoted(value),
                            " is not a metadata key of lower-case letters, digits, '-', '_' and "
                            "'.', other than authorization, grpc-... and ...-bin");
      },
      "");
}

}  // namespace

void AddModelOptions(CLI::App& app, ModelSettings& settings) {
  const std::string group = "Each model";
  app.add_option(
         "--device", settings.device,
         "Where models run: auto, cpu, cuda (every NVIDIA GPU), cuda:N or cuda:N,M (these). auto "
         "takes the GPUs if there are any that can be used, and the log says why not")
      ->check(Device())
      ->type_name("DEVICE")
      ->capture_default_str()
      ->group(group);
  app.add_option("--precision", settings.precision,
                 "Number format of weights and activations. auto takes fp16 on a GPU, else int8 "
                 "for a folder that dla-quantize wrote, else bf16 where the processor computes it "
                 "natively, else fp32. int8 also quantises a float folder that has photos to "
                 "calibrate on, each time it is loaded")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16", "int8"}))
      ->type_name("auto|fp32|bf16|fp16|int8")
      ->capture_default_str()
      ->group(group);
  app.add_option("--replicas", settings.replicas,
                 "Batches of a model that run at the same time. What is auto, here and in the next "
                 "two, is measured when the model is first loaded, see --calibrate. On GPUs: how "
                 "often each has memory to compute a batch in, auto is 1; each time with two "
                 "batches under way, of which one is copied")
      ->transform(AutoOr(0, 256))
      ->type_name("auto|N")
      ->default_str("auto")
      ->group(group);
  app.add_option("--threads", settings.threads,
                 "Compute threads of each replica. More than one answers a lone photo sooner and "
                 "costs throughput")
      ->transform(AutoOr(0, 1024))
      ->type_name("auto|N")
      ->default_str("auto")
      ->group(group);
  app.add_option("--max-batch", settings.max_batch,
                 "Most photos in one forward pass. Beyond what raises throughput, larger batches "
                 "only raise latency. On GPUs auto is 128, or what their memory holds")
      ->transform(AutoOr(1, 1024))
      ->type_name("auto|N")
      ->default_str("auto")
      ->group(group);
  app.add_option("--optimize", settings.optimize,
                 "What auto chooses for: throughput, most photos per second of a busy server; "
                 "latency, the shortest forward pass of a lone photo")
      ->check(CLI::IsMember({"throughput", "latency"}))
      ->type_name("throughput|latency")
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-queue-delay-us", settings.max_queue_delay_us,
                 "Microseconds that the oldest photo may be held back so that a batch can fill. 0 "
                 "never holds back, right wherever a batch costs in proportion to its photos")
      ->check(CLI::Range(0, 10'000'000))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--queue-capacity", settings.queue_capacity,
                 "Photos that may wait for a model before requests are refused")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--model-max-requests-in-flight", settings.max_requests_in_flight,
                 "Requests for a model that may be unanswered before more are refused. 0: as many "
                 "as --max-requests-in-flight leaves it; likewise the next two")
      ->check(CLI::Range(int64_t{0}, kMost))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--model-max-bytes-in-flight", settings.max_bytes_in_flight,
                 "Bytes of unanswered requests for a model before more are refused")
      ->check(CLI::Range(int64_t{0}, kMost))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--model-max-pixels-in-flight", settings.max_pixels_in_flight,
                 "Pixels of photos that wait to be decoded for a model before more are refused")
      ->check(CLI::Range(int64_t{0}, kMost))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--batch-timeout-ms", settings.batch_timeout_ms,
                 "Milliseconds after which a forward pass counts as hanging: its photos are tried "
                 "again on a new replica. 0 waits for ever")
      ->check(CLI::Range(0, 3'600'000))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option(
         "--cache", settings.cache,
         "Whether answers are kept in the response cache, where --cache-config asks for one")
      ->type_name("BOOL")
      ->default_str("true")
      ->group(group);
}

namespace {

// What flags give as text that is taken apart once all of them are read.
struct TextArgs {
  std::vector<std::string> models;  // NAME=DIR
  std::vector<std::string> labels;  // MODEL:LABEL=VERSION
  std::vector<std::string> places;  // MODEL=DEVICE
  std::string file;
};

void AddBudgets(CLI::App& app, ServerConfig& config, const std::string& group) {
  const auto add = [&](const char* flag, int64_t& value, const char* help) {
    app.add_option(flag, value, help)
        ->check(CLI::Range(int64_t{0}, kMost))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  add("--max-requests-in-flight", config.max_requests_in_flight,
      "Requests of all callers that may be unanswered before more are refused. 0, here and in the "
      "next two: as many as come");
  add("--max-bytes-in-flight", config.max_bytes_in_flight,
      "Bytes of all unanswered requests before more are refused");
  add("--max-pixels-in-flight", config.max_pixels_in_flight,
      "Pixels of all photos that wait to be decoded, as their headers declare them, before more "
      "are refused");
  add("--max-receive-bytes", config.max_receive_bytes,
      "Memory of requests that are still being received, beyond which gRPC ends some of them. It "
      "takes a moment, so that a flood from many connections takes more. 0: without limit");
}

void AddLimits(CLI::App& app, ServerConfig& config, const std::string& group) {
  const auto add = [&](const char* flag, int& value, int least, int most, const char* help) {
    app.add_option(flag, value, help)
        ->check(CLI::Range(least, most))
        ->type_name("N")
        ->capture_default_str()
        ->group(group);
  };
  add("--max-message-bytes", config.max_message_bytes, 1024, 1 << 30,
      "Largest request that is read; larger ones get RESOURCE_EXHAUSTED");
  add("--max-connections", config.max_connections, 1, 100'000,
      "Connections to gRPC's port at a time; callers beyond are hung up on. Each takes two of the "
      "process's open files, whose limit is raised as far as it may be");
  add("--http-threads", config.http_threads, 1, 4096,
      "Requests over HTTP that are served at a time, each by a thread of its own, which mostly "
      "waits");
  add("--max-concurrent-streams", config.max_concurrent_streams, 1, 100'000,
      "Calls of one connection at a time; callers hold back more than these themselves");
  add("--max-metadata-bytes", config.max_metadata_bytes, 1024, 1 << 20,
      "Most metadata of a call, names and values; calls with more get RESOURCE_EXHAUSTED");
  add("--handshake-timeout-seconds", config.handshake_timeout_s, 1, 3600,
      "How long a new connection may take until it speaks HTTP/2, TLS included");
  add("--keepalive-seconds", config.keepalive_s, 1, 86'400,
      "A connection that was silent for so long is pinged, and closed without an answer");
  add("--min-ping-interval-seconds", config.min_ping_interval_s, 0, 86'400,
      "Callers without a call that ping more often than this are hung up on");
  add("--max-connection-idle-seconds", config.max_connection_idle_s, 0, 86'400,
      "A connection without a call for so long is closed, which callers open again by themselves; "
      "0 keeps it");
  add("--max-connection-age-seconds", config.max_connection_age_s, 0, 86'400 * 365,
      "A connection this old gets no new calls, so that callers connect again: to another server, "
      "and with a certificate that is checked again; 0 keeps it");
}

void AddSecurity(CLI::App& app, ServerConfig& config) {
  const std::string group = "Security";
  const auto add_file = [&](const char* flag, std::string& value, const char* help) {
    app.add_option(flag, value, help)->type_name("FILE")->group(group);
  };
  add_file("--tls-cert", config.tls_certificate,
           "Serve gRPC and HTTP over TLS with this certificate and those that lead from it to the "
           "root, in "
           "PEM format. It, the next two and --token-file are read again when they change and on "
           "SIGHUP; what is wrong then leaves the old ones");
  add_file("--tls-key", config.tls_key, "The certificate's key, in PEM format without pass phrase");
  add_file("--tls-client-ca", config.tls_client_ca,
           "Callers must show a certificate that one of these has signed (mutual TLS)");
  add_file("--token-file", config.token_file,
           "Callers must send \"authorization: Bearer TOKEN\". Each line: NAME SCOPES SHA256, for "
           "example \"batch-job infer 5e88...\". infer: photos and all that tells of models; "
           "admin: also to load and unload models and register shared memory");
  app.add_option("--credentials-poll-seconds", config.credentials_poll_s,
                 "How often these files are looked at. What changed is used once two looks saw the "
                 "same; 0: on SIGHUP only")
      ->check(CLI::Range(0, 86'400))
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
  app.add_option("--client-id-metadata", config.client_id_metadata,
                 "Tell callers without token and certificate apart by this metadata. Only where a "
                 "trusted proxy writes it: anybody else may write what they like")
      ->check(MetadataKey())
      ->type_name("KEY")
      ->group(group);
  app.add_option("--reflection", config.reflection,
                 "Tell callers, token or not, which services and messages there are")
      ->type_name("BOOL")
      ->default_str("true")
      ->group(group);
}

// The one table of flags.
void AddOptions(CLI::App& app, ServerConfig& config, TextArgs& text) {
  app.option_defaults()->take_last();  // a later flag overrides an earlier one
  app.add_option("--model", text.models, "Serve the model folder DIR as NAME; may be repeated")
      ->take_all()
      ->type_name("NAME=DIR");
  app.add_option(
         "--model-repository", config.model_repository,
         "Serve every sub-folder of DIR, named by the folder. Without this and --model: the "
         "embedded flower model")
      ->type_name("DIR");
  app.add_option("--model-control", config.model_control,
                 "When models are loaded. none: all at start. poll: folders that are new, changed "
                 "or gone are loaded, loaded again or unloaded while the server serves. explicit: "
                 "at start those of --model and --load-model, then as requests say")
      ->check(CLI::IsMember({"none", "poll", "explicit"}))
      ->type_name("none|poll|explicit")
      ->capture_default_str();
  app.add_option("--repository-poll-seconds", config.repository_poll_seconds,
                 "How often poll looks at the folders. One that changed since the last look is "
                 "still being written and waits for the next")
      ->check(CLI::Range(1, 86'400))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--load-model", config.load_models,
                 "With --model-control explicit: load this model of the repository at start; may "
                 "be repeated")
      ->take_all()
      ->type_name("NAME");
  app.add_option("--version-label", text.labels,
                 "MODEL:LABEL=VERSION serves that version, too, and lets requests name it by the "
                 "label; \"stable\" is the version of requests that name none. May be repeated; "
                 "read again on SIGHUP")
      ->take_all()
      ->type_name("TEXT");
  app.add_option("--place", text.places,
                 "MODEL=DEVICE has that model run there instead of where --device says. May be "
                 "repeated")
      ->take_all()
      ->type_name("TEXT");
  app.add_option("--config", text.file,
                 "Read settings from a YAML file: the flags' names without dashes in front, and "
                 "models: {NAME: DIR or {path: DIR, max-batch: 8, ...}}. Flags win over the file")
      ->type_name("FILE");

  const std::string network = "Network";
  app.add_option("--grpc-address", config.grpc_address, "Where gRPC is served; port 0 picks one")
      ->check(Address())
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(network);
  app.add_option(
         "--http-address", config.http_address,
         "Where HTTP is served: photos, the Open Inference Protocol, health; port 0 picks one")
      ->check(Address())
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(network);
  app.add_option("--metrics-address", config.metrics_address,
                 "Where /metrics is served; port 0 picks one")
      ->check(Address())
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(network);
  app.add_option("--page", config.page,
                 "Show a page at / of the HTTP address, where a browser can classify photos. It "
                 "draws /metrics, which that address then serves, too, to callers who may send "
                 "photos")
      ->type_name("BOOL")
      ->default_str("true")
      ->group(network);
  AddLimits(app, config, network);
  AddBudgets(app, config, network);
  app.add_option("--drain-timeout", config.drain_timeout_s,
                 "Seconds that accepted requests have to finish after SIGTERM")
      ->check(CLI::Range(0, 86'400))
      ->type_name("N")
      ->capture_default_str()
      ->group(network);

  app.add_option("--allow-shared-memory", config.allow_shared_memory,
                 "Let callers of the Open Inference Protocol register shared memory of this "
                 "machine. Whoever reaches the port then reads and writes what the server may open")
      ->type_name("BOOL")
      ->default_str("false")
      ->group(network);

  AddSecurity(app, config);

  const std::string photos = "Photos";
  app.add_option("--decode-threads", config.decode_threads,
                 "Threads that decode photos. 0 takes as many as there are cores")
      ->check(CLI::Range(0, 1024))
      ->type_name("N")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--decoder", config.decoder,
                 "What decodes JPEGs: cpu; nvjpeg, the cards, which leaves what they do not do to "
                 "the processor; auto takes the cards where they are faster, measured at the "
                 "start, and their pixels near enough to the processor's, else cpu")
      ->check(CLI::IsMember({"auto", "cpu", "nvjpeg"}))
      ->type_name("auto|cpu|nvjpeg")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--max-pixels", config.max_pixels,
                 "Photos whose header declares more pixels are refused before they are decoded")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->type_name("N")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--max-side", config.max_side, "Photos with a longer side are refused, too")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--max-jpeg-scans", config.max_jpeg_scans,
                 "Progressive JPEGs of more scans are refused; each is a pass over all pixels")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--max-decode-ms", config.max_decode_ms,
                 "Photos that take more milliseconds to decode are given up")
      ->check(CLI::Range(1, 3'600'000))
      ->type_name("N")
      ->capture_default_str()
      ->group(photos);
  app.add_option("--exif-orientation", config.exif_orientation,
                 "Turn photos as their EXIF orientation says")
      ->type_name("BOOL")
      ->default_str("true")
      ->group(photos);
  app.add_option("--reduced-scale-decode", config.reduced_scale_decode,
                 "Decode JPEGs that are far larger than needed at 1/2, 1/4 or 1/8 scale: several "
                 "times faster, pixels differ by about the JPEG's own noise")
      ->type_name("BOOL")
      ->default_str("true")
      ->group(photos);

  app.add_option("--calibrate", config.calibrate,
                 "Measure for a second or two what is auto. false takes one replica of one thread "
                 "for each core and batches of 8")
      ->type_name("BOOL")
      ->default_str("true");
  app.add_option("--calibration-cache", config.calibration_cache,
                 "Keep what was measured in this file and read it at later starts. auto is "
                 "dla-serve/calibration.json in $XDG_CACHE_HOME or ~/.cache; off keeps nothing")
      ->type_name("FILE|auto|off")
      ->capture_default_str();
  app.add_option("--cache-config", config.cache_bytes,
                 "Keep answers and give them again to equal photos, in at most so many bytes of "
                 "memory; what was not asked for longest goes first")
      ->transform(CacheConfig())
      ->type_name("none|local,size=BYTES")
      ->default_str("none");
  app.add_option("--log-level", config.log_level, "How much is logged to standard error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->type_name("debug|info|warn|error")
      ->capture_default_str();

  AddModelOptions(app, config.defaults);
}

absl::StatusOr<ModelSource> ParseModelArg(const std::string& arg, const ModelSettings& defaults) {
  const size_t equals = arg.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == arg.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model \"", arg, "\" is not NAME=DIR, for example dla34=models/dla34"));
  }
  return ModelSource{
      .name = arg.substr(0, equals), .folder = arg.substr(equals + 1), .settings = defaults};
}

absl::Status AddVersionLabel(const std::string& arg, ServerConfig& config) {
  const size_t colon = arg.find(':');
  const size_t equals = colon == std::string::npos ? colon : arg.find('=', colon);
  if (equals == std::string::npos || colon == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--version-label \"", arg, "\" is not MODEL:LABEL=VERSION, for example dla34:stable=2"));
  }
  const std::string label = arg.substr(colon + 1, equals - colon - 1);
  const std::string version = arg.substr(equals + 1);
  if (const absl::Status good = CheckVersionLabel(label, version); !good.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--version-label \"", arg, "\": ", good.message()));
  }
  config.version_labels[arg.substr(0, colon)][label] = version;
  return absl::OkStatus();
}

absl::Status AddPlace(const std::string& arg, ServerConfig& config) {
  const size_t equals = arg.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--place \"", arg, "\" is not MODEL=DEVICE, for example dla34=cuda:1"));
  }
  const std::string device = arg.substr(equals + 1);
  if (const absl::Status known = ParseDevice(device).status(); !known.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--place \"", arg, "\": ", known.message()));
  }
  config.places[arg.substr(0, equals)] = device;
  return absl::OkStatus();
}

// Else the largest photo or request could never get in.
absl::Status CheckBudget(const char* flag, int64_t budget, const char* largest_flag,
                         int64_t largest) {
  if (budget == 0 || budget >= largest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", budget, " is less than ", largest_flag,
                                                 " ", largest, "; allow as much or more"));
}

absl::Status CheckBudgets(const ServerConfig& config) {
  auto check = [&](const std::string& flags, int64_t bytes, int64_t pixels) -> absl::Status {
    DLA_RETURN_IF_ERROR(CheckBudget((flags + "max-bytes-in-flight").c_str(), bytes,
                                    "--max-message-bytes", config.max_message_bytes));
    return CheckBudget((flags + "max-pixels-in-flight").c_str(), pixels, "--max-pixels",
                       config.max_pixels);
  };
  DLA_RETURN_IF_ERROR(check("--", config.max_bytes_in_flight, config.max_pixels_in_flight));
  DLA_RETURN_IF_ERROR(
      check("--model-", config.defaults.max_bytes_in_flight, config.defaults.max_pixels_in_flight));
  for (const ModelSource& model : config.models) {
    DLA_RETURN_IF_ERROR(
        check("--model-", model.settings.max_bytes_in_flight, model.settings.max_pixels_in_flight));
  }
  return absl::OkStatus();
}

absl::Status CheckModelControl(const ServerConfig& config) {
  if (config.load_models.empty() || config.model_control == "explicit") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--load-model \"", config.load_models[0],
                   "\" takes effect with --model-control explicit only, which is \"",
                   config.model_control, "\""));
}

absl::Status CheckSecurity(const ServerConfig& config) {
  if (config.tls_certificate.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.tls_key.empty() ? "--tls-cert" : "--tls-key", " is given without ",
                     config.tls_key.empty() ? "--tls-key" : "--tls-cert", "; TLS needs both"));
  }
  if (config.tls_client_ca.empty() || !config.tls_certificate.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--tls-client-ca is given without --tls-cert and --tls-key, which TLS needs");
}

}  // namespace

absl::Status CheckVersionLabel(const std::string& label, const std::string& version) {
  const bool letters =
      label.size() <= 100 && std::all_of(label.begin(), label.end(), [](unsigned char c) {
        return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
      });
  const bool digits = std::all_of(label.begin(), label.end(), absl::ascii_isdigit);
  if (!letters || digits) {  // an empty one is all digits, too
    return absl::InvalidArgumentError(absl::StrCat(
        "label ", Quoted(label),
        " is not made of letters, digits, '.', '_' and '-', at most 100 and not digits alone"));
  }
  int64_t number = -1;
  if (absl::SimpleAtoi(version, &number) && number >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("version \"", version, "\" of label \"", label, "\" is not a whole number"));
}

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args) {
  CommandLine line;
  TextArgs text;
  CLI::App app(
      "Classifies photos over gRPC with Deep Layer Aggregation networks.\n"
      "Logs one line with \"ready\" once it serves; exits 0 after SIGTERM when all\n"
      "accepted requests are answered.",
      "dla-server");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version",
                       absl::StrCat("dla-server ", kVersion, " (LibTorch ", kLibTorchVersion, ")"));
  AddOptions(app, line.config, text);
  app.add_flag("--hash-token", line.hash_token,
               "Read a token from standard input, print its SHA-256 for --token-file and exit")
      ->group("Security");
  std::string generate;
  cli::AddGenerateOption(app, generate);
  try {
    // CLI11 takes the arguments last first.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::CallForVersion& e) {
    line.print_and_exit = absl::StrCat(e.what(), "\n");
    return line;
  } catch (const CLI::Success&) {
    line.print_and_exit = app.help();
    return line;
  } catch (const CLI::ParseError& e) {
    return absl::InvalidArgumentError(absl::StrCat(e.what(), " (see dla-server --help)"));
  }

  if (!generate.empty()) {
    line.print_and_exit = cli::Generate(app, generate, kVersion);
    return line;
  }
  if (!text.file.empty()) DLA_RETURN_IF_ERROR(ApplyYamlFile(text.file, app, line.config));
  std::vector<ModelSource> from_flags;
  for (const std::string& arg : text.models) {
    DLA_ASSIGN_OR_RETURN(ModelSource source, ParseModelArg(arg, line.config.defaults));
    from_flags.push_back(std::move(source));
  }
  if (!from_flags.empty()) line.config.models = std::move(from_flags);
  for (const std::string& arg : text.labels) {
    DLA_RETURN_IF_ERROR(AddVersionLabel(arg, line.config));
  }
  for (const std::string& arg : text.places) DLA_RETURN_IF_ERROR(AddPlace(arg, line.config));
  DLA_RETURN_IF_ERROR(CheckModelControl(line.config));
  DLA_RETURN_IF_ERROR(CheckBudgets(line.config));
  DLA_RETURN_IF_ERROR(CheckSecurity(line.config));
  return line;
}

}  // namespace dla::server
