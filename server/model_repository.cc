#include "server/model_repository.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/quoted.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

namespace fs = std::filesystem;

absl::Status CheckName(const std::string& name) {
  const bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "model name \"", name, "\" is not made of letters, digits, '.', '_' and '-' alone"));
}

// All digits and small enough to compare: "7" -> 7.
std::optional<int64_t> VersionNumber(const std::string& name) {
  int64_t version = 0;
  const bool digits = std::all_of(name.begin(), name.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(name, &version)) return std::nullopt;
  return version;
}

absl::StatusOr<std::vector<fs::path>> SubFolders(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> result;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with('.')) continue;
    std::error_code ignored;
    if (it->is_directory(ignored)) result.push_back(it->path());
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("cannot read folder \"", folder.string(), "\": ", error.message()));
  }
  std::sort(result.begin(), result.end());
  return result;
}

// Number and name of each numeric sub-folder.
std::map<int64_t, std::string> VersionFolders(const std::vector<fs::path>& children) {
  std::map<int64_t, std::string> versions;
  for (const fs::path& child : children) {
    const std::string name = child.filename().string();
    if (const auto number = VersionNumber(name)) versions.emplace(*number, name);
  }
  return versions;
}

bool UsesEmbeddedModel(const ServerConfig& config) {
  if (!config.models.empty()) return false;
  return config.model_repository.empty() ||
         (config.model_control == "explicit" && config.load_models.empty());
}

}  // namespace

absl::StatusOr<std::vector<ModelSource>> FindModelSources(const ServerConfig& config) {
  std::vector<ModelSource> models = config.models;
  if (UsesEmbeddedModel(config)) {
    models.push_back({.name = "flowers5", .folder = "", .settings = config.defaults});
  }
  if (!config.model_repository.empty()) {
    DLA_ASSIGN_OR_RETURN(const std::vector<fs::path> folders, SubFolders(config.model_repository));
    if (folders.empty() && config.model_control == "none") {
      return absl::NotFoundError(absl::StrCat("--model-repository \"", config.model_repository,
                                              "\" has no sub-folders, so no models"));
    }
    for (const fs::path& folder : folders) {
      models.push_back({.name = folder.filename().string(),
                        .folder = folder.string(),
                        .settings = config.defaults});
    }
  }
  std::set<std::string> names;
  for (ModelSource& model : models) {
    const auto place = config.places.find(model.name);
    if (place != config.places.end()) model.settings.device = place->second;
    DLA_RETURN_IF_ERROR(CheckName(model.name));
    if (names.insert(model.name).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("two models are named \"", model.name, "\"; names must differ"));
  }
  for (const auto& [name, device] : config.places) {
    // With other kinds of control it may come later.
    if (names.contains(name) || config.model_control != "none") continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--place ", Quoted(absl::StrCat(name, "=", device)), ": there is no model of that name"));
  }
  return models;
}

absl::StatusOr<ModelVersions> FindModelVersions(const ModelSource& source,
                                                const VersionLabels& labels) {
  const fs::path folder = source.folder;
  std::map<int64_t, std::string> versions = {{1, "1"}};
  bool numbered = false;
  if (!source.folder.empty()) {
    DLA_ASSIGN_OR_RETURN(const std::vector<fs::path> children, SubFolders(folder));
    numbered = !fs::exists(folder / "config.json");
    if (numbered) versions = VersionFolders(children);
  }
  if (versions.empty()) {
    return absl::NotFoundError(
        absl::StrCat("model \"", source.name, "\": folder \"", folder.string(),
                     "\" holds neither config.json nor a numeric version folder such as 1/"));
  }
  ModelVersions result;
  std::set<int64_t> wanted = {versions.rbegin()->first};
  for (const auto& [label, version] : labels) {
    const std::optional<int64_t> number = VersionNumber(version);
    const auto found = number.has_value() ? versions.find(*number) : versions.end();
    if (found == versions.end()) {
      const std::string known =
          absl::StrJoin(versions, ", ", [](std::string* out, const auto& v) { *out += v.second; });
      return absl::NotFoundError(absl::StrCat("model \"", source.name, "\" has no version ",
                                              version, " for label \"", label, "\"; it has ",
                                              known));
    }
    wanted.insert(found->first);
    result.labels[label] = found->second;
  }
  for (const int64_t number : wanted) {
    const std::string& version = versions[number];
    result.folders.push_back({.name = source.name,
                              .version = version,
                              .path = numbered ? (folder / version).string() : source.folder,
                              .settings = source.settings});
  }
  return result;
}

std::string FolderListing(const std::string& path) {
  std::vector<std::string> lines;
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    const bool file = it->is_regular_file(ignored);
    lines.push_back(absl::StrCat(it->path().string(), " ", file ? it->file_size(ignored) : 0, " ",
                                 it->last_write_time(ignored).time_since_epoch().count()));
  }
  std::sort(lines.begin(), lines.end());
  return absl::StrJoin(lines, "\n");
}

}  // namespace dla::server
