// `dla-client embed`: the photos' embeddings as a NumPy file.
#pragma once

#include <string>

#include "client/photo_run.h"

namespace dla::client {

struct EmbedOptions {
  PhotoRunOptions run;
  std::string out;  // ends in ".npy"
};

// Writes one row for each photo that was answered, and their paths, line by line, into the file of
// names. Nothing appears under these names before all is done.
ExitCode RunEmbed(const EmbedOptions& options);

// "x.names.txt" for "x.npy".
std::string NamesPath(const std::string& npy_path);

}  // namespace dla::client
