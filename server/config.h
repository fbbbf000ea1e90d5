// What the operator can set: flags and the YAML file, from one table.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dla::server {

// Settings that each model may override in the YAML file.
struct ModelSettings {
  std::string device = "auto";     // see ParseDevice
  std::string precision = "auto";  // auto, fp32, bf16, fp16, int8
  // 0 is "auto": chosen when the model is loaded.
  int replicas = 0;
  int threads = 0;  // of each replica
  int max_batch = 0;
  std::string optimize = "throughput";  // what is chosen for: throughput, latency
  int max_queue_delay_us = 0;
  int queue_capacity = 512;
  // 0: as much as the server takes; see BudgetLimits.
  int64_t max_requests_in_flight = 0;
  int64_t max_bytes_in_flight = 0;
  int64_t max_pixels_in_flight = 0;
  int batch_timeout_ms = 30'000;  // 0: none
  bool cache = true;              // where there is a response cache
};

struct ModelSource {
  std::string name;    // empty together with folder: the embedded model
  std::string folder;  // holds config.json, or numeric version folders that do
  ModelSettings settings;
};

// Names for versions of one model: "stable" -> "2".
using VersionLabels = std::map<std::string, std::string>;

// INVALID_ARGUMENT unless `label` is made of at most 100 letters, digits, '.', '_' and '-' and
// could not be taken for a version, and `version` is a whole number.
absl::Status CheckVersionLabel(const std::string& label, const std::string& version);

struct ServerConfig {
  std::string grpc_address = "0.0.0.0:8001";
  std::string http_address = "0.0.0.0:8000";
  std::string metrics_address = "0.0.0.0:8002";

  // In the order in which they are served; the first one answers requests that name none.
  std::vector<ModelSource> models;
  std::string model_repository;
  ModelSettings defaults;
  std::map<std::string, std::string> places;  // devices of models by name, else the settings'

  std::string model_control = "none";    // none, poll, explicit
  int repository_poll_seconds = 15;      // between two looks of poll
  std::vector<std::string> load_models;  // what explicit loads at start, besides `models`
  std::map<std::string, VersionLabels> version_labels;  // by the model's name

  bool calibrate = true;                   // measure to choose; else by rule
  std::string calibration_cache = "auto";  // auto, off or a file; see CalibrationCachePath

  int decode_threads = 0;        // 0: as many as cores
  std::string decoder = "auto";  // auto, cpu, nvjpeg
  int64_t max_pixels = 100'000'000;
  int max_side = 65'535;
  int max_jpeg_scans = 100;
  int max_decode_ms = 10'000;
  int max_message_bytes = 32 << 20;
  // Of all callers together; see BudgetLimits.
  int64_t max_requests_in_flight = 4096;
  int64_t max_bytes_in_flight = 256 << 20;
  int64_t max_pixels_in_flight = 1'000'000'000;
  int64_t max_receive_bytes = 512 << 20;  // of messages that are being received; 0: no limit
  int max_connections = 1024;
  int http_threads = 128;            // requests over HTTP at a time
  bool page = true;                  // at / of HTTP, and /metrics there
  int max_concurrent_streams = 256;  // of one connection
  int max_metadata_bytes = 16 << 10;
  int handshake_timeout_s = 10;
  int keepalive_s = 60;
  int min_ping_interval_s = 10;
  int max_connection_idle_s = 900;  // 0: no limit, here and in the next
  int max_connection_age_s = 0;
  bool exif_orientation = true;
  bool reduced_scale_decode = true;

  int64_t cache_bytes = 0;  // of the response cache; 0: none
  bool allow_shared_memory = false;

  std::string tls_certificate;  // this and the next: both or neither
  std::string tls_key;
  std::string tls_client_ca;       // empty: callers need no certificate
  std::string token_file;          // empty: callers need no token
  int credentials_poll_s = 10;     // 0: on SIGHUP only
  std::string client_id_metadata;  // empty: none
  bool reflection = true;

  int drain_timeout_s = 30;
  std::string log_level = "info";
};

// What the command line asks for instead of serving.
struct CommandLine {
  ServerConfig config;
  std::string print_and_exit;  // text of --help or --version; empty: serve
  bool hash_token = false;     // print the SHA-256 of what standard input holds
};

// Reads argv (without the program's name), then the file that --config names; flags win.
// INVALID_ARGUMENT names the flag, or the file's line, and what would be right.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args);

}  // namespace dla::server
