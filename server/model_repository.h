// Which folders hold models: --model, --model-repository, and the versions inside a model's folder.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config.h"

namespace dla::server {

struct ModelFolder {
  std::string name;
  std::string version;  // "1" where the folder itself is the model
  std::string path;     // holds config.json and model.safetensors
  ModelSettings settings;
};

// The models that `config` names, then the sub-folders of the repository in alphabetical order.
// Hidden sub-folders are passed over. In a folder with numeric sub-folders the highest is the
// version. Empty when neither names any. INVALID_ARGUMENT or NOT_FOUND names the folder and what is
// missing, a name with characters other than letters, digits, '.', '_' and '-', or one used twice.
absl::StatusOr<std::vector<ModelFolder>> FindModelFolders(const ServerConfig& config);

}  // namespace dla::server
