// Which folders hold models: --model, --model-repository, and the versions inside a model's folder.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config.h"

namespace dla::server {

// One version of a model.
struct ModelFolder {
  std::string name;
  std::string version;  // "1" where the folder itself is the model
  std::string path;     // holds config.json and model.safetensors; empty: the embedded model
  ModelSettings settings;
};

// The models that `config` names, then the sub-folders of the repository in alphabetical order,
// hidden ones passed over; the embedded model where it names neither, or nothing that an explicit
// start loads. INVALID_ARGUMENT or NOT_FOUND names the folder that cannot be read, a name with
// characters other than letters, digits, '.', '_' and '-', or one used twice.
absl::StatusOr<std::vector<ModelSource>> FindModelSources(const ServerConfig& config);

// The versions of a model that are to be served: of numeric sub-folders the highest, and those that
// a label names. Labels come back with the versions' names as the folders have them. NOT_FOUND
// names the folder and what is missing.
struct ModelVersions {
  std::vector<ModelFolder> folders;  // the lowest first
  VersionLabels labels;
};
absl::StatusOr<ModelVersions> FindModelVersions(const ModelSource& source,
                                                const VersionLabels& labels = {});

// Names, sizes and times of change of all that is in a folder: what differs between two looks while
// somebody writes there. Empty for a folder that cannot be read.
std::string FolderListing(const std::string& path);

}  // namespace dla::server
