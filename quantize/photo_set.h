// The photos that a model is calibrated and judged on.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/image.h"
#include "model/model_config.h"
#include "model/photo_input.h"

namespace dla::quantize {

struct Photo {
  std::string path;
  Image image;     // as the network takes it
  int label = -1;  // the class that its folder is named by; -1: none
};

struct PhotoSet {
  std::vector<Photo> calibration;
  std::vector<Photo> held_out;
  // Left out, each in one line.
  std::vector<std::string> broken;
  int identical = 0;
};

struct PhotoSetOptions {
  std::vector<std::string> paths;
  std::vector<std::string> held_out;  // of these alone; empty: some of `paths`
  int photos = 600;                   // to take of all that are found
  int calibrate = 200;                // at most
  int fewest = 32;                    // different photos
  int threads = 1;
};

// Finds photos, takes some at even distances, decodes them as the server does and deals them out,
// so that each folder has photos of both kinds. What cannot be decoded and what has the same pixels
// as another photo is left out. INVALID_ARGUMENT where fewer than `fewest` (or 2) are left, with
// what became of the others.
absl::StatusOr<PhotoSet> LoadPhotoSet(const PhotoSetOptions& options, const ModelConfig& config);

// Views that live as long as the photos.
std::vector<PhotoInput> InputsOf(const std::vector<Photo>& photos);

}  // namespace dla::quantize
