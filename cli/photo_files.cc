#include "cli/photo_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dla::cli {
namespace {

using FolderId = std::pair<dev_t, ino_t>;

absl::Status Problem(absl::string_view what) {
  if (errno == EINTR) return absl::CancelledError("interrupted");
  return absl::ErrnoToStatus(errno, what);
}

bool HasPhotoName(absl::string_view name) {
  for (absl::string_view extension : {".jpg", ".jpeg", ".png", ".webp"}) {
    if (name.size() > extension.size() && absl::EndsWithIgnoreCase(name, extension)) return true;
  }
  return false;
}

absl::StatusOr<std::vector<std::string>> SortedNames(const std::string& folder) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return Problem("the folder cannot be read");
  const absl::Cleanup close = [dir] { closedir(dir); };
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0) return Problem("the folder cannot be read");
  std::sort(names.begin(), names.end());
  return names;
}

// Searches `root` and all folders below. The way back is kept on the heap, since nothing bounds
// how deep folders lie.
void SearchFolder(const std::string& root, FolderId root_id, std::vector<PhotoFile>& photos) {
  std::set<FolderId> seen = {root_id};
  std::vector<std::string> pending = {root};  // folders and photos; the next one is the last
  bool is_root = true;
  struct stat info;
  while (!pending.empty()) {
    std::string path = std::move(pending.back());
    pending.pop_back();
    if (!is_root) {
      // A link to nowhere: worth a word where it looks like a photo.
      if (stat(path.c_str(), &info) != 0) {
        if (HasPhotoName(path)) photos.push_back({path, Problem("cannot be opened")});
        continue;
      }
      if (S_ISREG(info.st_mode)) {
        if (HasPhotoName(path)) photos.push_back({path, absl::OkStatus()});
        continue;
      }
      if (!S_ISDIR(info.st_mode) || !seen.insert({info.st_dev, info.st_ino}).second) continue;
    }
    is_root = false;
    const auto names = SortedNames(path);
    if (!names.ok()) {
      photos.push_back({path, names.status()});
      continue;
    }
    const absl::string_view separator = absl::EndsWith(path, "/") ? "" : "/";
    for (auto name = names->rbegin(); name != names->rend(); ++name) {
      pending.push_back(absl::StrCat(path, separator, *name));
    }
  }
}

}  // namespace

std::vector<PhotoFile> FindPhotos(const std::vector<std::string>& paths) {
  std::vector<PhotoFile> photos;
  for (const std::string& path : paths) {
    struct stat info;
    if (path == "-" || stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      photos.push_back({path, absl::OkStatus()});
      continue;
    }
    const size_t before = photos.size();
    SearchFolder(path, {info.st_dev, info.st_ino}, photos);
    if (photos.size() == before) {
      photos.push_back(
          {path, absl::NotFoundError("no .jpg, .jpeg, .png or .webp file in this folder")});
    }
  }
  return photos;
}

absl::StatusOr<std::string> ReadPhoto(const PhotoFile& photo, size_t max_size) {
  if (!photo.status.ok()) return photo.status;
  int fd = STDIN_FILENO;
  if (photo.path != "-") {
    fd = open(photo.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Problem("cannot be opened");
  }
  const absl::Cleanup close_file = [fd] {
    if (fd != STDIN_FILENO) close(fd);
  };

  const auto too_large = [max_size](absl::string_view size) {
    return absl::InvalidArgumentError(absl::StrCat("has ", size, " bytes, more than the ", max_size,
                                                   " that --max-file-size allows"));
  };
  struct stat info;
  if (fstat(fd, &info) != 0) return Problem("cannot be read");
  const bool regular = S_ISREG(info.st_mode);
  const size_t expected = regular ? static_cast<size_t>(info.st_size) : 0;
  if (expected > max_size) return too_large(absl::StrCat(expected));

  constexpr size_t kChunk = 64 << 10;
  std::string bytes;
  size_t size = 0;
  while (true) {
    // One byte more than expected shows the end without a second round.
    bytes.resize(std::min(max_size + 1, std::max(expected + 1, size + kChunk)));
    const ssize_t count = read(fd, bytes.data() + size, bytes.size() - size);
    if (count < 0) return Problem("cannot be read");
    if (count == 0) break;
    size += static_cast<size_t>(count);
    if (size > max_size) return too_large(absl::StrCat("at least ", size));
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace dla::cli
