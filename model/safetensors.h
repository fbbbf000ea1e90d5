// Reader of the safetensors format: an 8-byte little-endian header length, a JSON header, raw
// tensors. Source: https://github.com/huggingface/safetensors (README, "Format").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace dla {

enum class DType { kF32, kF16, kBF16, kI64, kI8 };

size_t DTypeBytes(DType dtype);
absl::string_view DTypeName(DType dtype);  // as the format spells it: "F32"

// A view into the file; valid as long as the SafeTensors it came from.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape;  // empty for a scalar
  // Row-major, little-endian, product(shape) * DTypeBytes. Not necessarily aligned for the dtype.
  absl::Span<const uint8_t> bytes;
};

// An opened file. Movable, immutable, safe to read from any thread.
class SafeTensors {
 public:
  SafeTensors() = default;  // without any tensor

  // Maps the file into memory, so weights are read when they are first touched; it must not be
  // truncated meanwhile (replace it by renaming). Errors name the file: NOT_FOUND,
  // PERMISSION_DENIED, or INVALID_ARGUMENT for a header that is too long (over 100 MB or past the
  // end), not JSON, or that declares a tensor of unknown dtype, of a negative or overflowing shape,
  // out of bounds, overlapping another, or of a size that shape and dtype do not give; for a tensor
  // declared twice; and for data that belongs to no tensor.
  static absl::StatusOr<SafeTensors> Open(const std::string& path);

  // The same over bytes that outlive the result (the embedded model). `name` stands in errors.
  static absl::StatusOr<SafeTensors> Parse(absl::Span<const uint8_t> file, absl::string_view name);

  const absl::btree_map<std::string, TensorView>& tensors() const { return tensors_; }

  // nullptr if there is none.
  const TensorView* Find(absl::string_view name) const;

 private:
  std::shared_ptr<const void> mapping_;  // keeps the mmap alive; null when parsed from memory
  absl::btree_map<std::string, TensorView> tensors_;
};

}  // namespace dla
