#include "model/codec/image_size.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"

namespace dla::codec {
namespace {

uint32_t BigEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

uint32_t LittleEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i - 1]);
  return value;
}

absl::Status Truncated(absl::string_view format) {
  return absl::InvalidArgumentError(
      absl::StrCat(format, ": truncated, the data ends before the photo does"));
}

absl::StatusOr<ImageSize> Checked(absl::string_view format, int64_t height, int64_t width) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(format, ": no pixels, the header says ", width, " x ", height));
  }
  if (width > kMost || height > kMost) {
    return absl::InvalidArgumentError(absl::StrCat(format, ": the header says ", width, " x ",
                                                   height, ", a side is at most ", kMost,
                                                   " pixels long"));
  }
  return ImageSize{.height = height, .width = width};
}

enum JpegMarker : uint8_t {
  kTemporary = 0x01,
  kFirstFrame = 0xc0,
  kHuffmanTables = 0xc4,
  kReserved = 0xc8,
  kArithmeticTables = 0xcc,
  kLastFrame = 0xcf,
  kFirstRestart = 0xd0,
  kStartOfImage = 0xd8,
  kEndOfImage = 0xd9,
  kStartOfScan = 0xda,
};

bool IsFrame(uint8_t marker) {
  return marker >= kFirstFrame && marker <= kLastFrame && marker != kHuffmanTables &&
         marker != kReserved && marker != kArithmeticTables;
}

bool HasNoLength(uint8_t marker) {
  return marker == kTemporary || (marker >= kFirstRestart && marker <= kStartOfImage);
}

// Segments before the frame header; a photo with a 20 MB colour profile has 320.
constexpr int kMaxJpegSegments = 10'000;
// Bytes between segments, of all gaps together; decoders skip them.
constexpr size_t kMaxJpegStrayBytes = 1 << 16;

// Moves to behind the next marker, over bytes that are none. Zero bytes behind 0xff are no marker.
bool SkipToMarker(absl::string_view bytes, size_t& at, uint8_t& marker) {
  for (;;) {
    at = bytes.find('\xff', at);
    if (at == absl::string_view::npos) return false;
    while (at < bytes.size() && bytes[at] == '\xff') ++at;
    if (at == bytes.size()) return false;
    marker = static_cast<uint8_t>(bytes[at++]);
    if (marker != 0) return true;
  }
}

}  // namespace

absl::StatusOr<ImageSize> JpegSize(absl::string_view bytes) {
  size_t at = 2;  // behind the start of the image
  size_t stray_bytes = 0;
  for (int segment = 0; segment < kMaxJpegSegments; ++segment) {
    const size_t before = at;
    uint8_t marker = 0;
    // Looks one byte further than allowed, so that a gap that is too long is told from an end.
    const size_t reach = kMaxJpegStrayBytes - stray_bytes + 3;
    const absl::string_view reachable = bytes.substr(0, std::min(bytes.size(), before + reach));
    if (!SkipToMarker(reachable, at, marker)) {
      if (reachable.size() == bytes.size()) return Truncated("JPEG");
      break;
    }
    stray_bytes += at - before - 2;
    if (stray_bytes > kMaxJpegStrayBytes) break;
    if (marker == kEndOfImage || marker == kStartOfScan) {
      return absl::InvalidArgumentError("JPEG: no size, the pixels begin before the frame header");
    }
    if (HasNoLength(marker)) continue;
    // A frame header: length, precision, height, width.
    if (IsFrame(marker)) {
      if (bytes.size() - at < 7) return Truncated("JPEG");
      return Checked("JPEG", BigEndian(bytes.substr(at + 3, 2)),
                     BigEndian(bytes.substr(at + 5, 2)));
    }
    if (bytes.size() - at < 2) return Truncated("JPEG");
    at += std::max<size_t>(2, BigEndian(bytes.substr(at, 2)));
    if (at > bytes.size()) return Truncated("JPEG");
  }
  return absl::InvalidArgumentError(absl::StrCat("JPEG: no frame header within ", kMaxJpegSegments,
                                                 " segments and ", kMaxJpegStrayBytes,
                                                 " bytes between them"));
}

absl::StatusOr<ImageSize> PngSize(absl::string_view bytes) {
  constexpr size_t kHeader = 12, kWidth = 16, kHeight = 20, kEnd = 24;
  if (bytes.size() < kEnd) return Truncated("PNG");
  if (bytes.substr(kHeader, 4) != "IHDR") {
    return absl::InvalidArgumentError("PNG: the header chunk IHDR is not the first");
  }
  return Checked("PNG", BigEndian(bytes.substr(kHeight, 4)), BigEndian(bytes.substr(kWidth, 4)));
}

absl::StatusOr<ImageSize> WebpSize(absl::string_view bytes) {
  constexpr size_t kFirstChunk = 12, kChunkHeader = 8;
  constexpr size_t kRiffHeader = 8;  // "RIFF", size of what follows
  if (bytes.size() < kFirstChunk + kChunkHeader + 10 ||
      LittleEndian(bytes.substr(4, 4)) > bytes.size() - kRiffHeader) {
    return Truncated("WebP");
  }
  const absl::string_view name = bytes.substr(kFirstChunk, 4);
  const absl::string_view chunk = bytes.substr(kFirstChunk + kChunkHeader);
  if (name == "VP8X") {  // the canvas, which is as large as a still photo
    return Checked("WebP", LittleEndian(chunk.substr(7, 3)) + 1,
                   LittleEndian(chunk.substr(4, 3)) + 1);
  }
  if (name == "VP8 " && chunk.substr(3, 3) == "\x9d\x01\x2a") {
    return Checked("WebP", LittleEndian(chunk.substr(8, 2)) & 0x3fff,
                   LittleEndian(chunk.substr(6, 2)) & 0x3fff);
  }
  if (name == "VP8L" && chunk[0] == 0x2f) {
    const uint32_t bits = LittleEndian(chunk.substr(1, 4));
    return Checked("WebP", (bits >> 14 & 0x3fff) + 1, (bits & 0x3fff) + 1);
  }
  return absl::InvalidArgumentError("WebP: corrupt data");
}

}  // namespace dla::codec
