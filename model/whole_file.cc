#include "model/whole_file.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace dla {

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uintmax_t most,
                                          absl::string_view remedy) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat(path, " does not exist; ", remedy));
  }
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read: ", error.message()));
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read: it is not a file"));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read: ", error.message()));
  }
  if (size > most) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", size, " bytes, more than the ", most, " that it may have"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes(size, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!file) return absl::PermissionDeniedError(absl::StrCat(path, " cannot be read"));
  return bytes;
}

}  // namespace dla
