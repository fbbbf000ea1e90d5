// How a camera was held, from a photo's EXIF block.
#pragma once

#include "absl/strings/string_view.h"

namespace dla::codec {

// Orientation (EXIF 2.32, tag 0x0112) of an EXIF block: a TIFF structure, with or without the
// "Exif\0\0" that JPEG puts before it. 1..8; 1 (upright) where the block has none or is damaged.
// Reads the first directory alone, once: a library that reads all of a block can be kept busy for
// seconds by 60 KB of directories that hold themselves, and knows the private formats of a dozen
// cameras.
int ExifOrientation(absl::string_view block);

}  // namespace dla::codec
