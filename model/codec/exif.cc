#include "model/codec/exif.h"

#include <cstdint>
#include <optional>

#include "absl/strings/match.h"

namespace dla::codec {
namespace {

constexpr absl::string_view kExifHeader("Exif\0\0", 6);

// Numbers of a TIFF structure, in the byte order that its first bytes name.
class TiffReader {
 public:
  explicit TiffReader(absl::string_view tiff)
      : tiff_(tiff), big_endian_(absl::StartsWith(tiff, "MM")) {}

  // Nothing beyond the end.
  std::optional<uint32_t> Read(size_t at, size_t bytes) const {
    if (at > tiff_.size() || tiff_.size() - at < bytes) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      value = value << 8 | static_cast<uint8_t>(tiff_[at + (big_endian_ ? i : bytes - 1 - i)]);
    }
    return value;
  }

 private:
  const absl::string_view tiff_;
  const bool big_endian_;
};

// Bytes of a value of an integer type; cameras write a SHORT, some programs another one. 0: none.
size_t IntegerBytes(uint32_t type) {
  switch (type) {
    case 1:  // BYTE
    case 6:  // SBYTE
      return 1;
    case 3:  // SHORT
    case 8:  // SSHORT
      return 2;
    case 4:  // LONG
    case 9:  // SLONG
      return 4;
    default:
      return 0;
  }
}

}  // namespace

int ExifOrientation(absl::string_view block) {
  constexpr size_t kFirstDirectory = 4, kCount = 2, kEntry = 12;
  constexpr uint32_t kOrientation = 0x0112;
  if (absl::StartsWith(block, kExifHeader)) block.remove_prefix(kExifHeader.size());
  if (!absl::StartsWith(block, absl::string_view("MM\0*", 4)) &&
      !absl::StartsWith(block, absl::string_view("II*\0", 4))) {
    return 1;
  }
  const TiffReader tiff(block);
  const std::optional<uint32_t> directory = tiff.Read(kFirstDirectory, 4);
  if (!directory.has_value()) return 1;
  const uint32_t entries = tiff.Read(*directory, kCount).value_or(0);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = *directory + kCount + i * kEntry;
    if (!tiff.Read(entry + kEntry - 4, 4).has_value()) return 1;
    if (tiff.Read(entry, 2) != kOrientation) continue;
    const size_t bytes = IntegerBytes(*tiff.Read(entry + 2, 2));
    if (bytes == 0 || tiff.Read(entry + 4, 4) != 1) return 1;
    const uint32_t orientation = *tiff.Read(entry + 8, bytes);
    return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
  }
  return 1;
}

}  // namespace dla::codec
