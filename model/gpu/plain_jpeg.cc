// Sources: ITU-T T.81 annex B, JFIF 1.02, libjpeg-turbo's libjpeg.txt ("Special color spaces") for
// how a colour space is told.
#include "model/gpu/plain_jpeg.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/exif.h"
#include "model/codec/image_size.h"
#include "model/codec/turn.h"
#include "model/status_macros.h"

namespace dla::gpu {
namespace {

enum Marker : uint8_t {
  kBaselineFrame = 0xc0,
  kHuffmanTables = 0xc4,
  kFirstRestart = 0xd0,
  kLastRestart = 0xd7,
  kStartOfImage = 0xd8,
  kEndOfImage = 0xd9,
  kStartOfScan = 0xda,
  kQuantizationTables = 0xdb,
  kRestartInterval = 0xdd,
  kApp0 = 0xe0,
  kApp1 = 0xe1,
  kApp14 = 0xee,
  kApp15 = 0xef,
  kComment = 0xfe,
};

constexpr absl::string_view kExifHeader("Exif\0\0", 6);

uint8_t ByteAt(absl::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

absl::Status NotPlain(absl::string_view reason) {
  return absl::UnimplementedError(absl::StrCat("JPEG: ", reason));
}

// What the segments before the pixels say.
struct Header {
  bool frame = false;
  bool jfif = false;
  std::optional<int> adobe_transform;
  bool numbered = false;  // components are called 1, 2, 3
  std::optional<absl::string_view> exif;

  // As libjpeg tells it. Where JFIF and Adobe disagree, decoders do as well.
  bool IsYcc() const {
    return adobe_transform.has_value() ? *adobe_transform == 1 : jfif || numbered;
  }
};

absl::Status ReadFrame(absl::string_view segment, Header& header) {
  constexpr size_t kSize = 6 + 3 * 3;  // precision, height, width, count; three components
  if (header.frame) return NotPlain("two frames");
  if (segment.size() != kSize || ByteAt(segment, 5) != 3) return NotPlain("not three channels");
  if (ByteAt(segment, 0) != 8) return NotPlain("not 8 bits");
  const auto component = [&](int i, int byte) { return ByteAt(segment, 6 + 3 * i + byte); };
  const uint8_t sampling = component(0, 1);
  const bool usual = sampling == 0x11 || sampling == 0x21 || sampling == 0x22;
  if (!usual || component(1, 1) != 0x11 || component(2, 1) != 0x11) {
    return NotPlain("unusual sampling factors");
  }
  header.frame = true;
  header.numbered = component(0, 0) == 1 && component(1, 0) == 2 && component(2, 0) == 3;
  return absl::OkStatus();
}

// Where the entropy-coded data that begins at `at` ends with the end of the image; behind that.
absl::StatusOr<size_t> EndOfOnlyScan(absl::string_view bytes, size_t at) {
  for (;;) {
    at = bytes.find('\xff', at);
    if (at == absl::string_view::npos || at + 1 == bytes.size()) return NotPlain("no end");
    const uint8_t next = ByteAt(bytes, at + 1);
    if (next == kEndOfImage) return at + 2;
    const bool restart = next >= kFirstRestart && next <= kLastRestart;
    if (next != 0 && next != 0xff && !restart) return NotPlain("more than one scan");
    at += next == 0xff ? 1 : 2;
  }
}

// Reads up to the pixels; `at` is then where they begin.
absl::StatusOr<Header> ReadHeader(absl::string_view bytes, size_t& at) {
  Header header;
  if (!absl::StartsWith(bytes, "\xff\xd8")) return NotPlain("no start");
  for (at = 2;;) {
    if (bytes.size() < at + 4) return NotPlain("truncated");
    if (ByteAt(bytes, at) != 0xff) return NotPlain("stray bytes between segments");
    const uint8_t marker = ByteAt(bytes, at + 1);
    if (marker == 0xff) {  // padding
      ++at;
      continue;
    }
    const size_t length = size_t{ByteAt(bytes, at + 2)} << 8 | ByteAt(bytes, at + 3);
    if (length < 2 || bytes.size() - at - 2 < length) return NotPlain("truncated");
    const absl::string_view segment = bytes.substr(at + 4, length - 2);
    at += 2 + length;
    switch (marker) {
      case kBaselineFrame:
        DLA_RETURN_IF_ERROR(ReadFrame(segment, header));
        break;
      case kStartOfScan:
        if (!header.frame) return NotPlain("no frame");
        if (segment.size() != 1 + 2 * 3 + 3 || segment[0] != 3) return NotPlain("split scans");
        return header;
      case kApp0:
        if (segment.size() >= 14 && absl::StartsWith(segment, absl::string_view("JFIF\0", 5))) {
          header.jfif = true;
        }
        break;
      case kApp1:
        if (!header.exif.has_value() && absl::StartsWith(segment, kExifHeader)) {
          header.exif = segment;
        }
        break;
      case kApp14:
        if (segment.size() >= 12 && absl::StartsWith(segment, "Adobe")) {
          header.adobe_transform = ByteAt(segment, 11);
        }
        break;
      case kHuffmanTables:
      case kQuantizationTables:
      case kRestartInterval:
      case kComment:
        break;
      default:
        if (marker >= kApp0 && marker <= kApp15) break;
        return NotPlain("not baseline");
    }
  }
}

}  // namespace

absl::StatusOr<JpegPhoto> PlanJpeg(absl::string_view bytes, const InputSpec& spec,
                                   const LoadImageOptions& options) {
  size_t pixels_at = 0;
  DLA_ASSIGN_OR_RETURN(const Header header, ReadHeader(bytes, pixels_at));
  if (!header.IsYcc()) return NotPlain("perhaps not YCbCr");
  const absl::StatusOr<ImageSize> size = codec::JpegSize(bytes);
  const DecodeOptions limits = {.max_pixels = std::min(options.max_pixels, kMaxJpegPixels),
                                .max_side = options.max_side};
  if (!size.ok() || !codec::CheckSize("JPEG", size->width, size->height, limits).ok()) {
    return NotPlain("too large");
  }
  DLA_ASSIGN_OR_RETURN(const size_t end, EndOfOnlyScan(bytes, pixels_at));

  JpegPhoto photo;
  photo.bytes = bytes.substr(0, end);
  photo.height = static_cast<int>(size->height);
  photo.width = static_cast<int>(size->width);
  if (options.apply_exif_orientation && header.exif.has_value()) {
    photo.orientation = codec::ExifOrientation(*header.exif);
  }
  const bool transpose = codec::Turn(photo.orientation).transpose;
  absl::StatusOr<ResizePlan> plan = PlanResize(transpose ? photo.width : photo.height,
                                               transpose ? photo.height : photo.width, spec);
  if (!plan.ok()) return absl::UnimplementedError(plan.status().message());
  photo.plan = *std::move(plan);
  return photo;
}

}  // namespace dla::gpu
