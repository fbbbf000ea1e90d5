#include "model/codec/format.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dla::codec {
namespace {

// Magic numbers hold zero bytes.
template <size_t N>
constexpr absl::string_view Bytes(const char (&literal)[N]) {
  return absl::string_view(literal, N - 1);
}

struct Magic {
  size_t offset;
  absl::string_view bytes;
  absl::string_view name;
};

// The first match wins.
constexpr Magic kMagics[] = {
    {0, Bytes("GIF8"), "a GIF"},
    {4, Bytes("ftypavif"), "an AVIF image"},
    {4, Bytes("ftypavis"), "an AVIF image"},
    {4, Bytes("ftyphe"), "a HEIC image"},  // heic, heix, heim, heis, hevc, hevx
    {4, Bytes("ftypmif1"), "a HEIF image"},
    {4, Bytes("ftypmsf1"), "a HEIF image"},
    {4, Bytes("ftypcrx"), "a raw camera file (CR3)"},
    {4, Bytes("ftyp"), "an MP4 or QuickTime video"},
    {0, Bytes("II*\0"), "a TIFF or raw camera file"},
    {0, Bytes("MM\0*"), "a TIFF or raw camera file"},
    {0, Bytes("II+\0"), "a TIFF"},
    {0, Bytes("MM\0+"), "a TIFF"},
    {0, Bytes("\xff\x0a"), "a JPEG XL image"},
    {0, Bytes("\0\0\0\x0cJXL "), "a JPEG XL image"},
    {0, Bytes("\0\0\0\x0cjP  "), "a JPEG 2000 image"},
    {0, Bytes("\xff\x4f\xff\x51"), "a JPEG 2000 image"},
    {0, Bytes("8BPS"), "a Photoshop document"},
    {0, Bytes("\0\0\x01\0"), "an icon (ICO)"},
    {0, Bytes("%PDF"), "a PDF"},
    {0, Bytes("%!PS"), "PostScript"},
    {0, Bytes("PK\x03\x04"), "a ZIP archive"},
    {0, Bytes("\x1f\x8b"), "gzip data"},
    {8, Bytes("AVI "), "an AVI video"},
    {0, Bytes("RIFF"), "a RIFF file that is not WebP"},
    {0, Bytes("\x1a\x45\xdf\xa3"), "a Matroska or WebM video"},
    {0, Bytes("\177ELF"), "a program"},
    {0, Bytes("\x93NUMPY"), "a NumPy array"},
    {0, Bytes("/9j/"), "base64 text of a JPEG (send the bytes themselves)"},
    {0, Bytes("iVBORw0KGgo"), "base64 text of a PNG (send the bytes themselves)"},
    {0, Bytes("UklGR"), "base64 text of a WebP (send the bytes themselves)"},
    {0, Bytes("data:"), "a data: URL (send the bytes themselves)"},
    {0, Bytes("http://"), "a URL (send the bytes themselves)"},
    {0, Bytes("https://"), "a URL (send the bytes themselves)"},
};

bool HasAt(absl::string_view bytes, size_t offset, absl::string_view magic) {
  return bytes.size() >= offset && absl::StartsWith(bytes.substr(offset), magic);
}

// BMP's own magic is two letters, which text may begin with as well; its header size settles it.
bool IsBmp(absl::string_view bytes) {
  return bytes.size() >= 18 && absl::StartsWith(bytes, "BM") && bytes[14] >= 12 &&
         bytes.substr(15, 3) == Bytes("\0\0\0");
}

bool IsText(absl::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) {
    return c >= 0x80 || absl::ascii_isprint(c) || absl::ascii_isspace(c);
  });
}

std::string DescribeText(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const bool xml = absl::StartsWithIgnoreCase(text, "<?xml");
  if (absl::StartsWithIgnoreCase(text, "<svg") || (xml && absl::StrContains(text, "<svg"))) {
    return "an SVG drawing";
  }
  if (xml) return "XML";
  if (absl::StartsWithIgnoreCase(text, "<!doctype html") ||
      absl::StartsWithIgnoreCase(text, "<html")) {
    return "HTML";
  }
  if (absl::StartsWith(text, "{") || absl::StartsWith(text, "[")) return "JSON";
  return "text";
}

}  // namespace

Format DetectFormat(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\xff\xd8\xff")) return Format::kJpeg;
  if (absl::StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return Format::kPng;
  if (absl::StartsWith(bytes, "RIFF") && HasAt(bytes, 8, "WEBP")) return Format::kWebp;
  return Format::kOther;
}

std::string DescribeContent(absl::string_view bytes) {
  if (bytes.empty()) return "no bytes";
  for (const Magic& magic : kMagics) {
    if (HasAt(bytes, magic.offset, magic.bytes)) return std::string(magic.name);
  }
  if (IsBmp(bytes)) return "a BMP";
  const absl::string_view beginning = bytes.substr(0, 512);
  if (IsText(beginning)) return DescribeText(beginning);
  std::string description = "unknown data that begins with";
  for (unsigned char c : bytes.substr(0, 4)) absl::StrAppendFormat(&description, " %02x", c);
  return description;
}

}  // namespace dla::codec
