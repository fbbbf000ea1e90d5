#include "server/calibration_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "model/json.h"
#include "model/quoted.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxRecords = 200;
constexpr int kMaxCount = 1024;      // of replicas, threads and photos
constexpr int kMaxSize = 1'000'000;  // of pixels and classes

// 0 stands for "auto", which only what was fixed may be.
Json CountToJson(int count) { return count == 0 ? Json("auto") : Json(count); }

// Of what is in range alone, which other conversions do not look at.
int IntFromJson(const nlohmann::json& json, int most) {
  const int64_t value = json.is_number_integer() ? json.get<int64_t>() : 0;
  if (value >= 1 && value <= most) return static_cast<int>(value);
  throw std::out_of_range(absl::StrCat(Quoted(json.dump()), " is no number from 1 to ", most));
}

int CountFromJson(const nlohmann::json& json, bool may_be_auto) {
  return may_be_auto && json == "auto" ? 0 : IntFromJson(json, kMaxCount);
}

Json ShareToJson(const Share& share) {
  return {{"replicas", CountToJson(share.replicas)},
          {"threads", CountToJson(share.threads)},
          {"max_batch", CountToJson(share.max_batch)}};
}

Share ShareFromJson(const nlohmann::json& json, bool may_be_open) {
  return {.replicas = CountFromJson(json.at("replicas"), may_be_open),
          .threads = CountFromJson(json.at("threads"), may_be_open),
          .max_batch = CountFromJson(json.at("max_batch"), may_be_open)};
}

Json ToJson(const CalibrationRecord& record) {
  const CalibrationKey& key = record.key;
  return {{"processor", key.processor},
          {"cpus", key.cpus},
          {"architecture", key.architecture},
          {"precision", key.precision},
          {"height", key.height},
          {"width", key.width},
          {"classes", key.classes},
          {"program", key.program},
          {"optimize", key.optimize},
          {"asked", ShareToJson(key.fixed)},
          {"chosen", ShareToJson(record.share)},
          {"photos_per_second", std::round(record.photos_per_second * 10) / 10},
          {"measured", record.measured}};
}

CalibrationRecord FromJson(const nlohmann::json& json) {
  return {.key = {.processor = json.at("processor"),
                  .cpus = json.at("cpus"),
                  .architecture = json.at("architecture"),
                  .precision = json.at("precision"),
                  .height = IntFromJson(json.at("height"), kMaxSize),
                  .width = IntFromJson(json.at("width"), kMaxSize),
                  .classes = IntFromJson(json.at("classes"), kMaxSize),
                  .program = json.at("program"),
                  .optimize = json.at("optimize"),
                  .fixed = ShareFromJson(json.at("asked"), true)},
          .share = ShareFromJson(json.at("chosen"), false),
          .photos_per_second = json.at("photos_per_second"),
          .measured = json.at("measured")};
}

// Empty where there is no file. Opened once, for another process may replace it at any time.
absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return "";
  if (!fs::is_regular_file(status)) return absl::InvalidArgumentError("not a regular file");
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof() && !file) return absl::PermissionDeniedError("cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() <= kMaxBytes) return text;
  return absl::InvalidArgumentError(
      absl::StrCat("more than the ", kMaxBytes, " bytes of any such file"));
}

// Nothing where there is no file. The error says what is wrong with the file, but not its name.
absl::StatusOr<std::vector<CalibrationRecord>> ReadRecords(const std::string& path) {
  std::vector<CalibrationRecord> records;
  DLA_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  if (text.empty()) return records;
  DLA_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, "it"));
  try {
    if (json.at("format") != kFormat) {
      return absl::InvalidArgumentError(
          absl::StrCat("format ", json.at("format").dump(), ", not ", kFormat));
    }
    for (const nlohmann::json& each : json.at("results")) records.push_back(FromJson(each));
    return records;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(JsonErrorText(error));
  } catch (const std::out_of_range& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

std::string ErrnoText() { return std::generic_category().message(errno); }

// So that whoever reads `path`, or dies meanwhile, sees the old file or the new one.
absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  std::string temporary = path + ".XXXXXX";
  const int fd = mkstemp(temporary.data());
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("cannot write beside ", path, ": ", ErrnoText()));
  }
  bool good = fchmod(fd, 0644) == 0;  // mkstemp lets the owner alone read
  for (size_t done = 0; good && done < text.size();) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    good = n > 0 || (n < 0 && errno == EINTR);
    if (n > 0) done += n;
  }
  good = close(fd) == 0 && good;
  if (good && rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const std::string error = ErrnoText();
  unlink(temporary.c_str());
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", error));
}

// The same question on another machine.
bool DiffersInMachineAlone(const CalibrationKey& a, CalibrationKey b) {
  b.processor = a.processor;
  b.cpus = a.cpus;
  return a == b;
}

}  // namespace

std::string CalibrationCachePath(const std::string& setting) {
  if (setting == "off") return "";
  if (setting != "auto") return setting;
  constexpr absl::string_view kFile = "dla-serve/calibration.json";
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return absl::StrCat(cache, "/", kFile);
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return absl::StrCat(home, "/.cache/", kFile);
  return "";
}

CalibrationCache::Lookup CalibrationCache::Find(const CalibrationKey& key) const {
  Lookup lookup;
  if (path_.empty()) return lookup;
  const absl::StatusOr<std::vector<CalibrationRecord>> records = ReadRecords(path_);
  if (!records.ok()) {
    lookup.warning = absl::StrCat("calibration file ", path_,
                                  " is ignored, being damaged: ", records.status().message());
    return lookup;
  }
  const CalibrationRecord* elsewhere = nullptr;
  for (const CalibrationRecord& record : *records) {
    if (record.key == key) {
      lookup.record = record;
      return lookup;
    }
    if (DiffersInMachineAlone(record.key, key)) elsewhere = &record;
  }
  if (elsewhere != nullptr) {
    lookup.warning =
        absl::StrCat("calibration file ", path_, " is ignored for ", key.architecture,
                     ", being from another machine: ", Quoted(elsewhere->key.processor), " with ",
                     elsewhere->key.cpus, " processors, and this is ", Quoted(key.processor),
                     " with ", key.cpus);
  }
  return lookup;
}

absl::Status CalibrationCache::Store(const CalibrationRecord& record) const {
  if (path_.empty()) return absl::OkStatus();
  // What is damaged is written anew.
  std::vector<CalibrationRecord> records =
      ReadRecords(path_).value_or(std::vector<CalibrationRecord>());
  std::erase_if(records, [&](const CalibrationRecord& old) { return old.key == record.key; });
  records.push_back(record);
  if (records.size() > kMaxRecords) {
    records.erase(records.begin(), records.end() - kMaxRecords);
  }
  Json json = {{"about",
                "What dla-server measured when it started, to choose replicas, threads and the "
                "largest batch of each model. Delete this file, or one of the results, to have it "
                "measured again."},
               {"format", kFormat},
               {"results", Json::array()}};
  for (const CalibrationRecord& each : records) json["results"].push_back(ToJson(each));

  const fs::path folder = fs::path(path_).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot make folder ", folder.string(), ": ", error.message()));
  }
  try {
    return ReplaceFile(path_, json.dump(2) + "\n");
  } catch (const nlohmann::json::exception& e) {  // a processor's name that is not UTF-8
    return absl::InternalError(absl::StrCat("cannot write ", path_, ": ", JsonErrorText(e)));
  }
}

}  // namespace dla::server
