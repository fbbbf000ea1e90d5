// Encoded photo bytes (JPEG, PNG, WebP) to 8-bit RGB.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image.h"

namespace dla {

// Asked now and then while a photo is decoded, on the thread that decodes: once before the first
// pixel, then about every 65,536 pixels (1 ms), or for WebP between 64ths of the file. What a
// lossless WebP of a few bytes holds comes in one piece: a second for 100 million pixels. A status
// that is not OK ends the decode, which then returns it. Empty: always go on. Throws nothing.
using Proceed = std::function<absl::Status()>;

struct DecodeOptions {
  // Photos whose header declares more than this many pixels are refused before anything is decoded.
  int64_t max_pixels = 100'000'000;

  // Nor may a side be longer. More than any camera makes; the formats allow JPEG 65,500, WebP
  // 16,383 and PNG 2^31 - 1.
  int64_t max_side = 65'535;

  // A progressive JPEG has about ten scans. Each costs a pass over all pixels, however short it is,
  // so a small file could take hours.
  int max_jpeg_scans = 100;

  // Turn the photo as its EXIF Orientation says (what a viewer shows; timm's own loader does not).
  bool apply_exif_orientation = true;

  // JPEG only: decode at 1/2, 1/4 or 1/8 scale while the short side of what is decoded stays at
  // least this many pixels. 0 decodes at full size.
  int min_short_side = 0;

  Proceed proceed = nullptr;
};

// What a photo's header declares, before it is turned: 1 to 2^31 - 1 each.
struct ImageSize {
  int64_t height = 0;
  int64_t width = 0;

  int64_t pixels() const { return height * width; }
};

// Reads nothing but the header: under a microsecond, at most about 0.3 ms for a hostile file.
// INVALID_ARGUMENT in DecodeImage's words for what is no photo or has no size. That there is one
// does not say that the rest can be decoded; but what DecodeImage decodes has this size.
// Allocates nothing. Thread-safe.
absl::StatusOr<ImageSize> ReadImageSize(absl::string_view bytes);

struct DecodedImage {
  Image image;

  // The size that the header declares, turned as the image is.
  int full_height = 0;
  int full_width = 0;

  // Where the photo lies in the image: all over it, unless a JPEG was decoded at a scale that does
  // not divide its size. Then it covers the outermost row or column only in part.
  Region region;
};

// Decodes one photo. The format is told by the first bytes; no other decoder is ever tried.
// Grey, palette, alpha, 16-bit and CMYK become RGB as Pillow's Image.convert("RGB") makes them.
// INVALID_ARGUMENT: empty, not JPEG/PNG/WebP (the message names what it looks like), truncated,
// corrupt, an animation, or over a limit, which the message names with the value. What
// options.proceed returns when that is not OK. RESOURCE_EXHAUSTED: out of memory; needs about 3
// bytes for each pixel, for a progressive JPEG 9. Nothing is allocated from a size that has not
// been checked, and nothing is written to standard error. Thread-safe.
absl::StatusOr<DecodedImage> DecodeImage(absl::string_view bytes, const DecodeOptions& options);

}  // namespace dla
