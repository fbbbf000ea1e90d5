// `dla-client models` and `dla-client model`: what the server serves.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"
#include "client/photo_run.h"
#include "client/server_connection.h"
#include "dla/v1/classifier.pb.h"

namespace dla::client {

struct ModelsOptions {
  ServerOptions server;
  bool json = false;
  std::string name;  // of `model`; empty: the server's first one
};

ExitCode RunModels(const ModelsOptions& options);
ExitCode RunModel(const ModelsOptions& options);

// A line of headings and one line for each model, in aligned columns.
std::string ModelsTable(const std::vector<dla::v1::Model>& models);

// One fact per line, then the labels with their indices.
std::string ModelDetails(const dla::v1::Model& model);

// One line of JSON; "labels" only where the model has any.
std::string ModelJson(const dla::v1::Model& model);

}  // namespace dla::client
