// Puts one server under load and prints one JSON object about it; `dla_load_generator --help` and
// benchmarks/serving/README.md tell the rest.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "benchmarks/serving/load_run.h"
#include "benchmarks/serving/load_target.h"
#include "benchmarks/serving/process_tree.h"

namespace {

using dla::bench::LoadTarget;

struct Flags {
  std::string dla, kserve, http, pixels_of;  // exactly one is set
  std::string model;
  std::string photos;
  dla::bench::LoadPlan plan;
  dla::bench::DlaRequestOptions request;
  dla::bench::PixelsOptions pixels;
  pid_t server_pid = 0;
  bool answers = false;
};

struct Photos {
  std::vector<std::string> names, bytes;
};

absl::StatusOr<Photos> ReadPhotos(const std::string& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".jpg") paths.push_back(entry.path());
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  if (paths.empty()) return absl::NotFoundError(absl::StrCat(folder, " holds no .jpg"));
  std::sort(paths.begin(), paths.end());
  Photos photos;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    photos.names.push_back(path.filename());
    photos.bytes.emplace_back(std::istreambuf_iterator<char>(file),
                              std::istreambuf_iterator<char>());
    if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path.string()));
  }
  return photos;
}

absl::StatusOr<std::unique_ptr<LoadTarget>> Connect(const Flags& flags, const Photos& photos) {
  if (!flags.dla.empty())
    return dla::bench::MakeDlaTarget(flags.dla, flags.model, photos.bytes, flags.request);
  if (!flags.kserve.empty()) {
    return dla::bench::MakeKserveTarget(flags.kserve, flags.model, photos.bytes);
  }
  if (!flags.pixels_of.empty()) {
    return dla::bench::MakePixelsTarget(flags.pixels_of, flags.model, flags.pixels);
  }
  return dla::bench::MakeHttpTarget(flags.http, photos.bytes);
}

// What the server says about each photo, by its name.
absl::StatusOr<nlohmann::json> Answers(LoadTarget& target, const Photos& photos) {
  auto json = nlohmann::json::object();
  for (size_t i = 0; i < photos.names.size(); ++i) {
    absl::Notification done;
    absl::StatusOr<dla::bench::Answer> answer;
    target.Send(i, [&](absl::StatusOr<dla::bench::Answer> result) {
      answer = std::move(result);
      done.Notify();
    });
    done.WaitForNotification();
    if (!answer.ok()) {
      return absl::Status(answer.status().code(),
                          absl::StrCat(photos.names[i], ": ", answer.status().message()));
    }
    auto& list = json[photos.names[i]] = nlohmann::json::array();
    for (const auto& c : *answer) {
      list.push_back({{"index", c.index}, {"label", c.label}, {"probability", c.probability}});
    }
  }
  return json;
}

double CpuSecondsOf(int who) {
  rusage usage;
  getrusage(who, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Readings at one instant; the difference of two belongs to the time between them.
struct Readings {
  double server_s = 0;
  double generator_s = 0;  // without what this thread takes for its readings
  double self_s = 0;
  dla::bench::MachineCpu machine;
  std::chrono::steady_clock::time_point time;

  static Readings Now(pid_t server) {
    return {.server_s = dla::bench::CpuSeconds(dla::bench::ReadProcessTree(server)),
            .generator_s = CpuSecondsOf(RUSAGE_SELF) - CpuSecondsOf(RUSAGE_THREAD),
            .self_s = CpuSecondsOf(RUSAGE_SELF),
            .machine = dla::bench::ReadMachineCpu(),
            .time = std::chrono::steady_clock::now()};
  }
};

nlohmann::json Measure(LoadTarget& target, const Flags& flags) {
  Readings begin, end;
  int64_t memory = 0;
  dla::bench::LoadObserver observer;
  observer.begin = [&] { begin = Readings::Now(flags.server_pid); };
  observer.sample = [&] {
    if (flags.server_pid == 0) return;
    const auto tree = dla::bench::ReadProcessTree(flags.server_pid);
    memory = std::max(memory, dla::bench::MemoryBytes(tree));
  };
  observer.end = [&] { end = Readings::Now(flags.server_pid); };
  const auto result = RunLoad(target, flags.plan, observer);
  const bool open_loop = flags.plan.in_flight == 0;
  auto summary = Summarize(result, open_loop);
  summary.images *= flags.pixels.photos_per_request;
  summary.images_per_second *= flags.pixels.photos_per_request;

  const auto refusals = SummarizeRefusals(result);
  const double wall = std::chrono::duration<double>(end.time - begin.time).count();
  const double server = end.server_s - begin.server_s;
  const double others =
      end.machine.busy_s - begin.machine.busy_s - server - (end.self_s - begin.self_s);
  const double thousands = static_cast<double>(std::max<int64_t>(summary.images, 1)) / 1000;
  nlohmann::json json = {
      {"mode", open_loop ? "open" : "closed"},
      {"seconds", flags.plan.seconds},
      {"wall_s", wall},
      {"images", summary.images},
      {"images_per_second", summary.images_per_second},
      {"p50_ms", summary.p50_ms},
      {"p90_ms", summary.p90_ms},
      {"p99_ms", summary.p99_ms},
      {"max_ms", summary.max_ms},
      {"errors", result.errors},
      {"first_error", result.first_error},
      {"generator_cpu_s_per_1000", (end.generator_s - begin.generator_s) / thousands},
      {"stolen_cores", (end.machine.stolen_s - begin.machine.stolen_s) / wall}};
  if (flags.plan.allow_refusals) {
    json["refusals"] = refusals.refusals;
    json["refusal_p50_ms"] = refusals.p50_ms;
    json["refusal_p99_ms"] = refusals.p99_ms;
    json["refusal_max_ms"] = refusals.max_ms;
  }
  if (open_loop) {
    json["rate"] = flags.plan.rate;
  } else {
    json["in_flight"] = flags.plan.in_flight;
  }
  if (flags.server_pid != 0) {
    json["server_cpu_s_per_1000"] = server / thousands;
    json["rss_mb"] = static_cast<double>(memory) / 1e6;
    json["other_cores"] = std::max(0.0, others / wall);
  }
  return json;
}

absl::StatusOr<nlohmann::json> Run(const Flags& flags) {
  absl::StatusOr<Photos> photos = Photos();
  if (flags.pixels_of.empty()) photos = ReadPhotos(flags.photos);
  if (!photos.ok()) return photos.status();
  auto target = Connect(flags, *photos);
  if (!target.ok()) return target.status();
  if (flags.answers) return Answers(**target, *photos);
  if (flags.server_pid != 0 && dla::bench::ReadProcessTree(flags.server_pid).empty()) {
    return absl::NotFoundError(absl::StrCat("no process ", flags.server_pid));
  }
  return Measure(**target, flags);
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Puts an image classification server under load and prints one JSON object.");
  auto* server = app.add_option_group("server")->require_option(1);
  server->add_option("--dla", flags.dla, "host:port that speaks dla.v1");
  server->add_option("--kserve", flags.kserve, "host:port that speaks the Open Inference Protocol");
  server->add_option("--http", flags.http, "http://host:port/path that photos are posted to");
  auto* pixels =
      server->add_option("--pixels", flags.pixels_of,
                         "host:port of a dla-server that gets raw pixels instead of photos");
  app.add_option("--model", flags.model, "name of the model, not for --http");
  app.add_option("--photos", flags.photos, "folder of .jpg files, sent in turn; not for --pixels");
  app.add_option("--side", flags.pixels.side, "pixels of each side, for --pixels")
      ->check(CLI::Range(32, 4096))
      ->needs(pixels);
  app.add_option("--photos-per-request", flags.pixels.photos_per_request,
                 "for --pixels; latencies are those of requests")
      ->check(CLI::Range(1, 256))
      ->needs(pixels);
  app.add_flag("--shared-memory", flags.pixels.shared_memory,
               "pixels do not travel with the requests, for --pixels")
      ->needs(pixels);
  app.add_option("--connections", flags.request.connections,
                 "each with a thread of its own, for --dla and --pixels")
      ->check(CLI::Range(1, 64));
  auto* what = app.add_option_group("load")->require_option(1);
  what->add_option("--in-flight", flags.plan.in_flight, "closed loop: requests at any time")
      ->check(CLI::Range(1, 512));
  what->add_option("--rate", flags.plan.rate, "open loop: requests a second at random times")
      ->check(CLI::Range(0.01, 1e6));
  what->add_flag("--answers", flags.answers, "no load: print what is said about each photo");
  app.add_flag("--allow-refusals", flags.plan.allow_refusals,
               "RESOURCE_EXHAUSTED is counted apart instead of as an error");
  app.add_option("--client", flags.request.client,
                 "who asks: sent as metadata \"client-id\", for --dla");
  app.add_flag("--bulk", flags.request.bulk, "send with priority bulk, for --dla");
  app.add_option("--seed", flags.plan.seed, "of the random times");
  app.add_option("--warm-up", flags.plan.warm_up_s, "seconds before measuring")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--seconds", flags.plan.seconds, "seconds measured")
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("--server-pid", flags.server_pid,
                 "also tell CPU and memory of this process and all that it started");
  CLI11_PARSE(app, argc, argv);
  flags.pixels.connections = flags.request.connections;
  if (flags.pixels_of.empty() && flags.photos.empty()) {
    std::cerr << "dla_load_generator: --photos names no folder\n";
    return 2;
  }

  const auto json = Run(flags);
  if (!json.ok()) {
    std::cerr << "dla_load_generator: " << json.status().message() << "\n";
    return 1;
  }
  std::cout << json->dump() << "\n";
  return 0;
}
