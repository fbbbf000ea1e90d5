#include "cli/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::cli {
namespace {

constexpr size_t kBufferSize = 1 << 20;

// Writes all of `bytes`; at the end of the file if `offset` < 0. False, with errno, on error.
bool WriteFully(int fd, off_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = offset < 0 ? write(fd, bytes.data(), bytes.size())
                                     : pwrite(fd, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
    if (offset >= 0) offset += count;
  }
  return true;
}

}  // namespace

absl::StatusOr<AtomicFile> AtomicFile::Create(std::string path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": it is a folder"));
  }
  std::string temporary = absl::StrCat(path, ".", getpid(), ".part");
  // Not mkstemp: its files are private to the user, whatever the umask says.
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  return AtomicFile(std::move(path), std::move(temporary), fd);
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      buffer_(std::exchange(other.buffer_, {})) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status AtomicFile::Append(absl::string_view bytes) {
  absl::StrAppend(&buffer_, bytes);
  return buffer_.size() < kBufferSize ? absl::OkStatus() : Flush();
}

absl::Status AtomicFile::Overwrite(uint64_t offset, absl::string_view bytes) {
  if (absl::Status flushed = Flush(); !flushed.ok()) return flushed;
  return WriteFully(fd_, static_cast<off_t>(offset), bytes) ? absl::OkStatus() : Problem();
}

absl::Status AtomicFile::Commit() {
  if (absl::Status flushed = Flush(); !flushed.ok()) return flushed;
  if (fsync(fd_) != 0) return Problem();
  if (close(std::exchange(fd_, -1)) != 0) return Problem();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return Problem();
  temporary_.clear();
  return absl::OkStatus();
}

absl::Status AtomicFile::Flush() {
  if (!WriteFully(fd_, -1, buffer_)) return Problem();
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status AtomicFile::Problem() const {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
}

}  // namespace dla::cli
