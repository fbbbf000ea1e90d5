#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/quoted.h"
#include "model/safetensors_header.h"
#include "model/status_macros.h"

namespace dla {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit

uint64_t LittleEndian64(absl::Span<const uint8_t> bytes) {
  uint64_t value = 0;
  for (size_t i = kLengthBytes; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

std::string Shape(const TensorInfo& info) {
  return absl::StrCat(DTypeName(info.dtype), " [", absl::StrJoin(info.shape, ", "), "]");
}

absl::Status TensorError(absl::string_view name, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": ", message));
}

// A tensor's own bounds: inside of the data, and as long as shape and dtype say.
absl::Status CheckTensor(absl::string_view name, const TensorInfo& info, uint64_t data_size) {
  if (info.begin > info.end || info.end > data_size) {
    return TensorError(
        name, absl::StrCat("data_offsets [", info.begin, ", ", info.end,
                           "] do not lie within the file's ", data_size, " bytes of data"));
  }
  uint64_t size = DTypeBytes(info.dtype);
  for (int64_t dimension : info.shape) {
    if (__builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size)) {
      return TensorError(name, absl::StrCat(Shape(info), " is too large"));
    }
  }
  if (size != info.end - info.begin) {
    return TensorError(name, absl::StrCat(Shape(info), " takes ", size,
                                          " bytes, but data_offsets hold ", info.end - info.begin));
  }
  return absl::OkStatus();
}

// Like the reference implementation: the tensors fill the data without overlaps and without holes.
absl::Status CheckCoverage(const absl::btree_map<std::string, TensorInfo>& infos,
                           uint64_t data_size) {
  std::vector<const std::pair<const std::string, TensorInfo>*> by_offset;
  by_offset.reserve(infos.size());
  for (const auto& entry : infos) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });

  uint64_t covered = 0;
  const std::string* previous = nullptr;
  for (const auto* entry : by_offset) {
    const auto& [name, info] = *entry;
    if (info.begin < covered) {
      return TensorError(name, absl::StrCat("overlaps tensor ", Quoted(*previous)));
    }
    if (info.begin > covered) {
      return TensorError(name, absl::StrCat("bytes ", covered, " to ", info.begin,
                                            " before it belong to no tensor"));
    }
    covered = info.end;
    previous = &name;
  }
  if (covered < data_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("the last ", data_size - covered, " bytes belong to no tensor"));
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::btree_map<std::string, TensorView>> ParseTensors(
    absl::Span<const uint8_t> file) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.size(),
                     " bytes are too few for a safetensors file, which begins with 8 bytes of "
                     "header length"));
  }
  const uint64_t header_size = LittleEndian64(file);
  const size_t rest = file.size() - kLengthBytes;
  if (header_size > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("not a safetensors file: a header of ",
                                                   header_size, " bytes; the limit is ",
                                                   kMaxHeaderBytes));
  }
  if (header_size > rest) {
    return absl::InvalidArgumentError(absl::StrCat("truncated: the header should be ", header_size,
                                                   " bytes long, but only ", rest, " follow"));
  }
  const absl::Span<const uint8_t> header = file.subspan(kLengthBytes, header_size);
  const absl::Span<const uint8_t> data = file.subspan(kLengthBytes + header_size);
  DLA_ASSIGN_OR_RETURN(auto infos, ParseSafeTensorsHeader(absl::string_view(
                                       reinterpret_cast<const char*>(header.data()), header_size)));

  absl::btree_map<std::string, TensorView> tensors;
  for (const auto& [name, info] : infos) {
    DLA_RETURN_IF_ERROR(CheckTensor(name, info, data.size()));
  }
  DLA_RETURN_IF_ERROR(CheckCoverage(infos, data.size()));
  for (auto& [name, info] : infos) {
    tensors.emplace(name, TensorView{info.dtype, std::move(info.shape),
                                     data.subspan(info.begin, info.end - info.begin)});
  }
  return tensors;
}

absl::Status Annotate(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

absl::Status Errno(const std::string& path, absl::string_view call) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": ", call));
}

}  // namespace

size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kI8:
      return 1;
  }
  return 0;
}

absl::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kI64:
      return "I64";
    case DType::kI8:
      return "I8";
  }
  return "?";
}

absl::StatusOr<SafeTensors> SafeTensors::Open(const std::string& path) {
  // Not blocking: a named pipe would wait for a writer for ever.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Errno(path, "cannot open");
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info;
  if (fstat(fd, &info) != 0) return Errno(path, "cannot stat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }

  const auto size = static_cast<size_t>(info.st_size);
  std::shared_ptr<const void> mapping;
  if (size > 0) {
    void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) return Errno(path, "cannot map into memory");
    mapping = std::shared_ptr<const void>(
        address, [size](const void* mapped) { munmap(const_cast<void*>(mapped), size); });
  }
  auto result = Parse({static_cast<const uint8_t*>(mapping.get()), size}, path);
  if (result.ok()) result->mapping_ = std::move(mapping);
  return result;
}

absl::StatusOr<SafeTensors> SafeTensors::Parse(absl::Span<const uint8_t> file,
                                               absl::string_view name) {
  auto tensors = ParseTensors(file);
  if (!tensors.ok()) return Annotate(name, tensors.status());
  SafeTensors result;
  result.tensors_ = *std::move(tensors);
  return result;
}

const TensorView* SafeTensors::Find(absl::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace dla
