#include "client/npy_writer.h"

#include <bit>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dla::client {
namespace {

// NumPy wants a multiple of 64. Two counts of 20 digits fit, so that the header can be written
// before the number of rows is known and written over in place.
constexpr size_t kHeaderSize = 128;
constexpr size_t kPreambleSize = 10;  // magic, version, length

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

}  // namespace

std::string NpyHeader(uint64_t rows, uint64_t columns) {
  constexpr uint16_t kLength = kHeaderSize - kPreambleSize;
  std::string header("\x93NUMPY\x01\x00", 8);
  header.push_back(static_cast<char>(kLength & 0xff));
  header.push_back(static_cast<char>(kLength >> 8));
  absl::StrAppend(&header, "{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ",
                  columns, "), }");
  header.resize(kHeaderSize - 1, ' ');
  header.push_back('\n');
  return header;
}

absl::StatusOr<NpyWriter> NpyWriter::Create(std::string path) {
  auto file = cli::AtomicFile::Create(std::move(path));
  if (!file.ok()) return file.status();
  if (absl::Status status = file->Append(NpyHeader(0, 0)); !status.ok()) return status;
  return NpyWriter(*std::move(file));
}

absl::Status NpyWriter::AppendRow(absl::Span<const float> row) {
  if (row.empty()) return absl::InvalidArgumentError("the embedding is empty");
  if (rows_ > 0 && row.size() != columns_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the embedding has ", row.size(), " values where the first has ", columns_));
  }
  columns_ = row.size();
  ++rows_;
  return file_.Append({reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float)});
}

absl::Status NpyWriter::Commit() {
  if (rows_ == 0) return absl::FailedPreconditionError("there is no embedding to write");
  if (absl::Status status = file_.Overwrite(0, NpyHeader(rows_, columns_)); !status.ok()) {
    return status;
  }
  return file_.Commit();
}

}  // namespace dla::client
