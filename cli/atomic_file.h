// A file that appears under its name complete or not at all.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla::cli {

// Grows under a temporary name in the same folder. Errors name the file. Not thread-safe.
class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(std::string path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  // Removes what was written, unless Commit succeeded.
  ~AtomicFile();

  absl::Status Append(absl::string_view bytes);

  // Writes over `bytes.size()` bytes at `offset`, which Append wrote before.
  absl::Status Overwrite(uint64_t offset, absl::string_view bytes);

  // Brings everything to the disk and gives the file its name; an older file of that name is
  // replaced. To be called once, as the last.
  absl::Status Commit();

  const std::string& path() const { return path_; }

 private:
  AtomicFile(std::string path, std::string temporary, int fd);
  absl::Status Flush();
  absl::Status Problem() const;

  std::string path_;
  std::string temporary_;  // empty once there is none
  int fd_;
  std::string buffer_;
};

}  // namespace dla::cli
