// Keeps what calibration found in a file that people can read and delete.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/calibration.h"

namespace dla::server {

// What a result is true for. A result is used only where all of it is the same.
struct CalibrationKey {
  // The machine.
  std::string processor;
  double cpus = 0;  // see CpuLimits
  // The model.
  std::string architecture;
  std::string precision;
  int height = 0;
  int width = 0;
  int classes = 0;
  // The program and what it was asked for.
  std::string program;   // version of the server and of LibTorch
  std::string optimize;  // "throughput", "latency"
  Share fixed;
  bool operator==(const CalibrationKey&) const = default;
};

struct CalibrationRecord {
  CalibrationKey key;
  Share share;
  double photos_per_second = 0;
  std::string measured;  // when: "2026-11-23"; told, not used
};

// Where the file belongs: $XDG_CACHE_HOME/dla-serve/calibration.json, or .cache in $HOME instead
// of $XDG_CACHE_HOME. `setting` "auto" asks for that, "off" and "" for none, all else is a file's
// path. Empty for none, also where neither variable holds an absolute path.
std::string CalibrationCachePath(const std::string& setting);

// Not kept open: every call reads the file anew, and Store puts a new one in its place, so several
// servers may use one file. If two store at the same moment one result may be lost, to be measured
// again. Thread-safe.
class CalibrationCache {
 public:
  // `path` may be empty: nothing is found, nothing is kept.
  explicit CalibrationCache(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  struct Lookup {
    std::optional<CalibrationRecord> record;
    std::string warning;  // why the file, or what it holds for this model, is not used; or empty
  };

  // A file that does not exist holds nothing, which is no reason to warn. One that is damaged is
  // passed over with a warning, as are results for the same model from another machine.
  Lookup Find(const CalibrationKey& key) const;

  // Adds the record or replaces the one with the same key; what else the file holds stays, but for
  // the oldest of many records. Makes the folder. The error says what could not be written.
  absl::Status Store(const CalibrationRecord& record) const;

 private:
  const std::string path_;
};

}  // namespace dla::server
