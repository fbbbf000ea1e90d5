#include "server/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/quoted.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

constexpr size_t kMaxNameBytes = 1024;
constexpr uint64_t kMaxOffset = std::numeric_limits<off_t>::max();

std::string ErrorText(int error) { return std::system_category().message(error); }

// Closes unless released.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::Status OpenError(int error, const std::string& key) {
  const std::string what =
      absl::StrCat("cannot open shared memory with key ", Quoted(key), ": ", ErrorText(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(
          absl::StrCat(what, "; create it on the server's machine with shm_open first"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(what);
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(what);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(what, "; keys look like \"/name\", without another slash"));
  }
}

// The size of the shared memory now.
absl::StatusOr<uint64_t> SizeOf(int fd, const std::string& key) {
  struct stat file;
  if (fstat(fd, &file) != 0) {
    return absl::InternalError(absl::StrCat("cannot read the size of shared memory with key ",
                                            Quoted(key), ": ", ErrorText(errno)));
  }
  if (!S_ISREG(file.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("key ", Quoted(key), " is no shared memory"));
  }
  return static_cast<uint64_t>(file.st_size);
}

absl::Status Shrunk(const SharedMemoryRegionInfo& info) {
  return absl::InvalidArgumentError(absl::StrCat(
      "the shared memory with key ", Quoted(info.key), " has become smaller than region ",
      Quoted(info.name), ", which was registered in it"));
}

}  // namespace

SharedMemoryRegion::SharedMemoryRegion(SharedMemoryRegionInfo info, int fd, uint64_t max_read_bytes)
    : info_(std::move(info)), fd_(fd), max_read_bytes_(max_read_bytes) {}

SharedMemoryRegion::~SharedMemoryRegion() { close(fd_); }

absl::Status SharedMemoryRegion::CheckInside(uint64_t offset, uint64_t byte_size) const {
  if (offset <= info_.byte_size && byte_size <= info_.byte_size - offset) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(byte_size, " bytes at offset ", offset, " are not inside shared memory region ",
                   Quoted(info_.name), " of ", info_.byte_size, " bytes"));
}

absl::StatusOr<std::string> SharedMemoryRegion::Read(uint64_t offset, uint64_t byte_size) const {
  DLA_RETURN_IF_ERROR(CheckInside(offset, byte_size));
  if (byte_size > max_read_bytes_) {
    return absl::InvalidArgumentError(absl::StrCat(byte_size, " bytes of shared memory region ",
                                                   Quoted(info_.name), " are more than the ",
                                                   max_read_bytes_, " that are read at once"));
  }
  // Before the bytes are allocated.
  DLA_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd_, info_.key));
  if (info_.offset + offset + byte_size > size) return Shrunk(info_);
  std::string bytes(byte_size, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = pread(fd_, bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(info_.offset + offset + done));
    if (count == 0) return Shrunk(info_);
    if (count > 0) {
      done += count;
    } else if (errno != EINTR) {
      return absl::InternalError(absl::StrCat("cannot read shared memory region ",
                                              Quoted(info_.name), ": ", ErrorText(errno)));
    }
  }
  return bytes;
}

absl::Status SharedMemoryRegion::Write(uint64_t offset, absl::string_view bytes) const {
  DLA_RETURN_IF_ERROR(CheckInside(offset, bytes.size()));
  // Writing beyond the end would make the memory larger again. Should it shrink after this check,
  // it grows back to what was registered at most.
  DLA_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd_, info_.key));
  if (info_.offset + offset + bytes.size() > size) return Shrunk(info_);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = pwrite(fd_, bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(info_.offset + offset + done));
    if (count >= 0) {
      done += count;
    } else if (errno != EINTR) {
      return absl::InternalError(absl::StrCat("cannot write to shared memory region ",
                                              Quoted(info_.name), ": ", ErrorText(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status SharedMemoryRegions::CheckFree(const std::string& name) const {
  if (regions_.contains(name)) {
    return absl::AlreadyExistsError(absl::StrCat("a shared memory region named ", Quoted(name),
                                                 " is registered already; unregister it first"));
  }
  if (regions_.size() >= limits_.regions) {
    return absl::ResourceExhaustedError(absl::StrCat(
        limits_.regions, " shared memory regions are registered already; unregister one first"));
  }
  return absl::OkStatus();
}

absl::Status SharedMemoryRegions::Register(const SharedMemoryRegionInfo& info) {
  if (info.name.empty() || info.name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the name of a shared memory region has ",
                                                   info.name.size(), " bytes; 1 to ", kMaxNameBytes,
                                                   " are allowed"));
  }
  // shm_open would stop reading at a zero byte and open something else.
  if (info.key.empty() || info.key.size() > kMaxNameBytes ||
      info.key.find('\0') != std::string::npos) {
    return OpenError(EINVAL, info.key);
  }
  if (info.byte_size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("byte_size of shared memory region ", Quoted(info.name), " is 0"));
  }
  {
    MutexLock lock(mu_);
    DLA_RETURN_IF_ERROR(CheckFree(info.name));
  }
  Descriptor fd(shm_open(info.key.c_str(), O_RDWR, 0));
  if (fd.get() < 0) return OpenError(errno, info.key);
  DLA_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd.get(), info.key));
  const uint64_t end = std::min(size, kMaxOffset);
  if (info.offset > end || info.byte_size > end - info.offset) {
    return absl::InvalidArgumentError(
        absl::StrCat("shared memory region ", Quoted(info.name), ": ", info.byte_size,
                     " bytes at offset ", info.offset, " are not inside the ", size,
                     " bytes of the shared memory with key ", Quoted(info.key)));
  }
  auto region = std::make_shared<SharedMemoryRegion>(info, fd.Release(), limits_.read_bytes);
  MutexLock lock(mu_);
  DLA_RETURN_IF_ERROR(CheckFree(info.name));  // again: another caller may have been faster
  regions_.emplace(info.name, std::move(region));
  return absl::OkStatus();
}

void SharedMemoryRegions::Unregister(absl::string_view name) {
  decltype(regions_) dropped;  // closed after the lock is released
  MutexLock lock(mu_);
  if (name.empty()) {
    dropped.swap(regions_);
  } else if (const auto found = regions_.find(name); found != regions_.end()) {
    dropped.insert(regions_.extract(found));
  }
}

absl::StatusOr<std::vector<SharedMemoryRegionInfo>> SharedMemoryRegions::Status(
    absl::string_view name) const {
  std::vector<SharedMemoryRegionInfo> found;
  if (!name.empty()) {
    DLA_ASSIGN_OR_RETURN(const std::shared_ptr<SharedMemoryRegion> region, Find(name));
    found.push_back(region->info());
    return found;
  }
  MutexLock lock(mu_);
  for (const auto& [unused, region] : regions_) found.push_back(region->info());
  return found;
}

absl::StatusOr<std::shared_ptr<SharedMemoryRegion>> SharedMemoryRegions::Find(
    absl::string_view name) const {
  MutexLock lock(mu_);
  const auto found = regions_.find(name);
  if (found != regions_.end()) return found->second;
  return absl::NotFoundError(
      absl::StrCat("no shared memory region is registered as ", Quoted(name)));
}

}  // namespace dla::server
