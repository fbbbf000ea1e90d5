#include "quantize/int8_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/atomic_file.h"
#include "model/status_macros.h"

namespace dla::quantize {
namespace {

std::mutex unfinished_mutex;
std::string& Unfinished() {  // guarded by unfinished_mutex
  static auto& path = *new std::string;
  return path;
}

void Remove(const std::string& folder) {
  std::error_code ignored;
  if (!folder.empty()) std::filesystem::remove_all(folder, ignored);
}

absl::Status Problem(const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
}

// So that a name survives a loss of power.
void SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (fd < 0) return;
  (void)!fsync(fd);
  close(fd);
}

absl::Status Exists(const std::string& path) {
  return absl::AlreadyExistsError(
      absl::StrCat(path, " exists; give a folder that does not, or remove it first"));
}

}  // namespace

absl::StatusOr<NewFolder> NewFolder::Create(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  struct stat info;
  if (lstat(path.c_str(), &info) == 0) return Exists(path);
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".part");
  const std::lock_guard lock(unfinished_mutex);
  if (mkdir(temporary.c_str(), 0777) != 0) return Problem(path);
  Unfinished() = temporary;
  return NewFolder(std::move(path), temporary);
}

NewFolder::NewFolder(std::string path, std::string temporary)
    : path_(std::move(path)), temporary_(std::move(temporary)) {}

NewFolder::NewFolder(NewFolder&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})) {}

NewFolder::~NewFolder() {
  if (temporary_.empty()) return;
  const std::lock_guard lock(unfinished_mutex);
  Remove(temporary_);
  Unfinished().clear();
}

absl::Status NewFolder::Write(const std::string& name, absl::string_view bytes) const {
  const std::string file = absl::StrCat(temporary_, "/", name);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), error);
  if (error) return absl::UnknownError(absl::StrCat("cannot write ", file, ": ", error.message()));
  DLA_ASSIGN_OR_RETURN(cli::AtomicFile out, cli::AtomicFile::Create(file));
  DLA_RETURN_IF_ERROR(out.Append(bytes));
  return out.Commit();
}

absl::Status NewFolder::Commit() {
  const std::lock_guard lock(unfinished_mutex);
  SyncFolder(temporary_);
  // Unlike rename(), never takes the place of an empty folder that was made meanwhile.
  if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return Exists(path_);
    // Some file systems do not know the flag.
    if (errno != EINVAL || rename(temporary_.c_str(), path_.c_str()) != 0) return Problem(path_);
  }
  temporary_.clear();
  Unfinished().clear();
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  SyncFolder(parent.empty() ? "." : parent);
  return absl::OkStatus();
}

void RemoveUnfinished() {
  const std::lock_guard lock(unfinished_mutex);
  Remove(Unfinished());
}

}  // namespace dla::quantize
