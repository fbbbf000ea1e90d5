#include "server/calibration_photos.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/photo_files.h"
#include "cli/text.h"
#include "model/self_test.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

constexpr size_t kMostPhotos = 64;  // more change next to nothing and take longer
constexpr size_t kMaxPhotoBytes = 64 << 20;

}  // namespace

absl::StatusOr<std::vector<std::string>> CalibrationPhotos(const std::string& folder) {
  std::vector<std::string> photos;
  const std::string calibration = folder + "/calibration";
  std::error_code error;
  if (!std::filesystem::is_directory(calibration, error)) {
    DLA_ASSIGN_OR_RETURN(std::vector<SelfTestPhoto> self_test, ReadSelfTest(folder));
    for (SelfTestPhoto& photo : self_test) photos.push_back(std::move(photo.bytes));
    return photos;
  }
  const std::vector<cli::PhotoFile> files = cli::FindPhotos({calibration});
  const size_t count = std::min(files.size(), kMostPhotos);
  for (size_t i = 0; i < count; ++i) {
    const cli::PhotoFile& file = files[i * files.size() / count];
    absl::StatusOr<std::string> bytes = cli::ReadPhoto(file, kMaxPhotoBytes);
    if (!bytes.ok()) {
      return absl::Status(bytes.status().code(),
                          absl::StrCat(cli::Printable(file.path), ": ", bytes.status().message()));
    }
    photos.push_back(*std::move(bytes));
  }
  return photos;
}

}  // namespace dla::server
