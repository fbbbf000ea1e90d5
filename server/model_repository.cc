#include "server/model_repository.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
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

absl::StatusOr<ModelFolder> ResolveVersion(const std::string& name, const fs::path& folder,
                                           const ModelSettings& settings) {
  DLA_RETURN_IF_ERROR(CheckName(name));
  DLA_ASSIGN_OR_RETURN(const std::vector<fs::path> children, SubFolders(folder));
  ModelFolder best{.name = name, .version = "1", .path = folder.string(), .settings = settings};
  if (fs::exists(folder / "config.json")) return best;
  int64_t highest = -1;
  for (const fs::path& child : children) {
    const std::optional<int64_t> version = VersionNumber(child.filename().string());
    if (!version.has_value() || *version <= highest) continue;
    highest = *version;
    best.version = child.filename().string();
    best.path = child.string();
  }
  if (highest >= 0) return best;
  return absl::NotFoundError(
      absl::StrCat("model \"", name, "\": folder \"", folder.string(),
                   "\" holds neither config.json nor a numeric version folder such as 1/"));
}

}  // namespace

absl::StatusOr<std::vector<ModelFolder>> FindModelFolders(const ServerConfig& config) {
  std::vector<ModelFolder> models;
  for (const ModelSource& source : config.models) {
    DLA_ASSIGN_OR_RETURN(ModelFolder model,
                         ResolveVersion(source.name, source.folder, source.settings));
    models.push_back(std::move(model));
  }
  if (!config.model_repository.empty()) {
    DLA_ASSIGN_OR_RETURN(const std::vector<fs::path> folders, SubFolders(config.model_repository));
    if (folders.empty()) {
      return absl::NotFoundError(absl::StrCat("--model-repository \"", config.model_repository,
                                              "\" has no sub-folders, so no models"));
    }
    for (const fs::path& folder : folders) {
      DLA_ASSIGN_OR_RETURN(ModelFolder model,
                           ResolveVersion(folder.filename().string(), folder, config.defaults));
      models.push_back(std::move(model));
    }
  }
  std::set<std::string> names;
  for (const ModelFolder& model : models) {
    if (names.insert(model.name).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("two models are named \"", model.name, "\"; names must differ"));
  }
  return models;
}

}  // namespace dla::server
