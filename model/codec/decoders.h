// One decoder for each accepted format. DecodeImage picks the right one.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image.h"
#include "model/image_codec.h"

namespace dla::codec {

struct Decoded {
  Image image;          // as stored in the file, not turned yet
  int orientation = 1;  // EXIF Orientation, 1..8; 1 where there is none or it was not asked for
  int full_height = 0;  // as the header declares it
  int full_width = 0;
  int reduction = 1;  // a pixel of the image is so many high and wide of the full photo; 1, 2, 4, 8
};

// Each checks the size in the header against the options before it allocates pixels, and
// puts out what Pillow's Image.open(...).convert("RGB") does. INVALID_ARGUMENT for what Pillow
// refuses. Thread-safe.
absl::StatusOr<Decoded> DecodeJpeg(absl::string_view bytes, const DecodeOptions& options);
absl::StatusOr<Decoded> DecodePng(absl::string_view bytes, const DecodeOptions& options);
absl::StatusOr<Decoded> DecodeWebp(absl::string_view bytes, const DecodeOptions& options);

// INVALID_ARGUMENT unless both sides are at least 1 and within the options' limits.
// Both sides < 2^31.
absl::Status CheckSize(absl::string_view format, int64_t width, int64_t height,
                       const DecodeOptions& options);

}  // namespace dla::codec
