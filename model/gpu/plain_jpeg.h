// Tells JPEGs that a card may decode.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/gpu/jpeg_decoder.h"
#include "model/input_spec.h"
#include "model/preprocess.h"

namespace dla::gpu {

// Larger ones would keep more of the card's memory for each decoding thread than they are worth.
inline constexpr int64_t kMaxJpegPixels = 16'000'000;

// Takes on photos that every decoder agrees about: baseline, 8 bits, YCbCr at 4:4:4, 4:2:2 or
// 4:2:0, one scan, complete, within the options' limits and kMaxJpegPixels. UNIMPLEMENTED, with the
// reason, for all else, be it unusual or wrong: LoadImage will decode it or say what is wrong.
// `bytes` outlives the result. Thread-safe.
absl::StatusOr<JpegPhoto> PlanJpeg(absl::string_view bytes, const InputSpec& spec,
                                   const LoadImageOptions& options);

}  // namespace dla::gpu
