// From the paths on the command line to photos and their bytes.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dla::cli {

struct PhotoFile {
  std::string path;  // as the user would write it; "-" is standard input

  // Why there is no photo at this path: a folder that cannot be read or holds no photo.
  absl::Status status;
};

// The photos at `paths`, in their order. Files are taken as they are, whatever their names. Folders
// are searched with all folders below for names that end in .jpg, .jpeg, .png or .webp (in upper or
// lower case), in the order of their names; hidden files and folders (".name") are left out. Links
// are followed, and each folder is read once, so that a loop of links ends.
std::vector<PhotoFile> FindPhotos(const std::vector<std::string>& paths);

// The bytes of a photo. INVALID_ARGUMENT if there are more than `max_size` of them, NOT_FOUND or
// PERMISSION_DENIED and the like if the file cannot be read, CANCELLED if it is no ordinary file
// and a signal is handled while it blocks (see Interrupt). Never holds more than max_size + 1
// bytes.
absl::StatusOr<std::string> ReadPhoto(const PhotoFile& photo, size_t max_size);

}  // namespace dla::cli
