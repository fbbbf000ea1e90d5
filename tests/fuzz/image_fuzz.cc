// Photos: decoded, turned, resized and cropped, in full and at a reduced scale.
#include "model/image_codec.h"
#include "model/preprocess.h"
#include "tests/fuzz/check.h"
#include "tests/support/png_checksums.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 != 0) dla::RepairPngChecksums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using dla::fuzz::CheckRefusal;
  const absl::string_view bytes = dla::fuzz::AsText(data, size);
  constexpr int64_t kMaxPixels = 1 << 14;  // small, to be fast
  const auto invalid = absl::StatusCode::kInvalidArgument;

  const absl::StatusOr<dla::ImageSize> declared = dla::ReadImageSize(bytes);
  if (!declared.ok()) CheckRefusal(declared.status(), invalid);

  dla::DecodeOptions options;
  options.max_pixels = kMaxPixels;
  options.apply_exif_orientation = false;
  const absl::StatusOr<dla::DecodedImage> photo = dla::DecodeImage(bytes, options);
  if (photo.ok()) {
    FUZZ_CHECK(declared.ok());
    FUZZ_CHECK(declared->height == photo->full_height && declared->width == photo->full_width);
    FUZZ_CHECK(photo->image.height == photo->full_height);
    FUZZ_CHECK(photo->image.pixels.size() == photo->image.height * photo->image.row_bytes());
    FUZZ_CHECK(declared->pixels() <= kMaxPixels);
  } else {
    CheckRefusal(photo.status(), invalid);
  }

  dla::InputSpec spec;
  spec.height = spec.width = 8;
  dla::LoadImageOptions load;
  load.max_pixels = kMaxPixels;
  const absl::StatusOr<dla::Image> image = dla::LoadImage(bytes, spec, load);
  // A damaged JPEG may be refused at one scale and not at the other; else both agree.
  if (image.ok()) {
    FUZZ_CHECK(image->height == 8 && image->width == 8 && image->pixels.size() == 8 * 8 * 3);
  } else {
    CheckRefusal(image.status(), invalid);
  }
  return 0;
}
