// A folder that appears whole or not at all.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla::quantize {

// Lies beside `path` under a temporary name until Commit. One at a time: see RemoveUnfinished.
class NewFolder {
 public:
  // ALREADY_EXISTS if there is anything at `path`, a link to nowhere included; else what keeps the
  // folder from being made.
  static absl::StatusOr<NewFolder> Create(std::string path);

  NewFolder(NewFolder&& other) noexcept;
  NewFolder& operator=(NewFolder&&) = delete;

  // Removes what was written, unless Commit succeeded.
  ~NewFolder();

  // Where it lies now.
  const std::string& path() const { return temporary_; }

  // Makes `name`, which may lie in a folder "a/b" that is made, too, and brings it to the disk.
  absl::Status Write(const std::string& name, absl::string_view bytes) const;

  // Gives the folder its name. To be called once, as the last.
  absl::Status Commit();

 private:
  NewFolder(std::string path, std::string temporary);

  std::string path_;
  std::string temporary_;  // empty once there is none
};

// Removes the folder that is being made, if any. For a program that ends early; thread-safe.
void RemoveUnfinished();

}  // namespace dla::quantize
