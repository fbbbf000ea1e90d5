// Matrices in NumPy's .npy format, version 1.0:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cli/atomic_file.h"

namespace dla::client {

// The 128 bytes before the data of a float32 matrix of rows x columns in C order.
std::string NpyHeader(uint64_t rows, uint64_t columns);

// Writes a float32 matrix row by row; memory use does not grow with it. The file appears under its
// name when it is complete. Not thread-safe.
class NpyWriter {
 public:
  // `path` is the file to be. Errors name it.
  static absl::StatusOr<NpyWriter> Create(std::string path);

  // INVALID_ARGUMENT if the row is empty or not as long as the first; the row is then left out.
  absl::Status AppendRow(absl::Span<const float> row);

  // Completes the file. FAILED_PRECONDITION without any row.
  absl::Status Commit();

  const std::string& path() const { return file_.path(); }
  uint64_t rows() const { return rows_; }
  uint64_t columns() const { return columns_; }

 private:
  explicit NpyWriter(cli::AtomicFile file) : file_(std::move(file)) {}

  cli::AtomicFile file_;
  uint64_t rows_ = 0;
  uint64_t columns_ = 0;
};

}  // namespace dla::client
