// The size of a photo from the beginning of its file, without a decoder.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image_codec.h"

namespace dla::codec {

// Each reads bytes of its own format as the decoder of that format would, so that both see the same
// size or the decoder refuses the file; sides are 1 to 2^31 - 1. INVALID_ARGUMENT: no size there,
// or for JPEG none within the segments that a camera or an editor writes. They allocate nothing.
// Sources: ITU-T T.81 annex B, PNG 1.2 section 4.1.1, RFC 9649 section 2, RFC 6386 section 9.1.
absl::StatusOr<ImageSize> JpegSize(absl::string_view bytes);
absl::StatusOr<ImageSize> PngSize(absl::string_view bytes);
absl::StatusOr<ImageSize> WebpSize(absl::string_view bytes);

}  // namespace dla::codec
