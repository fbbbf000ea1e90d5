// JPEG decoding on a card. Needs neither CUDA nor LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "model/gpu/resize_plan.h"

namespace dla::gpu {

// A JPEG that a card decodes as libjpeg does, and what becomes of its pixels.
struct JpegPhoto {
  absl::string_view bytes;  // from the start of the image to its end, nothing behind
  int height = 0;           // as stored, 1 to 65,535
  int width = 0;
  int orientation = 1;  // EXIF 1..8; 1 where it is not to be applied
  ResizePlan plan;      // of the upright photo
};

// Thread-safe; as many threads as it was made for decode at the same time.
class JpegDecoder {
 public:
  virtual ~JpegDecoder() = default;

  // Writes what LoadImage would give, pixels decoded at full size and then resized:
  // photo.plan.height x photo.plan.width x 3 bytes to `out` in the host's memory, best pinned.
  // Returns when they are there; after an error nothing is written any more, either.
  // UNIMPLEMENTED: not this photo. UNAVAILABLE: no photo any more. Others: this one failed.
  virtual absl::Status Decode(const JpegPhoto& photo, uint8_t* out) = 0;
};

struct NamedJpegDecoder {
  std::string name;  // for the log: "nvjpeg (engines)"
  std::unique_ptr<JpegDecoder> decoder;
};

}  // namespace dla::gpu
