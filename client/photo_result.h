// What became of one photo.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "dla/v1/classifier.pb.h"

namespace dla::client {

struct PhotoResult {
  std::string file;  // as in PhotoFile
  absl::StatusOr<dla::v1::ClassifyResponse> answer;
};

}  // namespace dla::client
