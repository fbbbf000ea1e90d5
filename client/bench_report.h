// How the figures of `dla-client bench` look.
#pragma once

#include <cstddef>
#include <string>

#include "cli/terminal.h"
#include "client/bench_run.h"
#include "client/load_pacer.h"

namespace dla::client {

// What was measured.
struct BenchSetting {
  std::string address;
  std::string model;
  std::string model_version;
  size_t photos = 0;
  int connections = 1;
  LoadPlan plan;
};

// For people: what was measured, throughput, failures by code, percentiles, the server's own times
// and a histogram.
std::string BenchTable(const BenchSetting& setting, const BenchFigures& figures,
                       const cli::Terminal& terminal);

// One line, one JSON object; `dla-client bench --help` tells its members.
std::string BenchJson(const BenchSetting& setting, const BenchFigures& figures);

// "12 s  483 images/s  p50 8.12 ms  p99 15.2 ms  3 failed".
std::string BenchProgress(const BenchFigures& figures);

}  // namespace dla::client
