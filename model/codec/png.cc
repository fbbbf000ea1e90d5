// PNG through libpng.
#include <png.h>

#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/exif.h"
#include "model/status_macros.h"

namespace dla::codec {
namespace {

// Owns a libpng reader over bytes in memory. libpng reports errors by longjmp.
class PngReader {
 public:
  explicit PngReader(absl::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, OnError, OnWarning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool ok() const { return info_ != nullptr; }
  png_structp png() { return png_; }
  png_infop info() { return info_; }

  // Runs calls into libpng. Whatever `calls` has on its stack must need no destructor.
  template <typename Calls>
  absl::Status Try(Calls calls) {
    if (setjmp(png_jmpbuf(png_)) == 0) {
      calls();
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("PNG: ", message_));
  }

  // To be called once, first.
  absl::Status ReadHeader(bool keep_exif) {
    return Try([this, keep_exif] {
      png_set_read_fn(png_, this, OnRead);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // CheckSize does it
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      // Text and colour profiles are of no use here, and may inflate to gigabytes.
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
      if (keep_exif) {
        png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_AS_DEFAULT,
                                    reinterpret_cast<png_const_bytep>("eXIf"), 1);
      }
      png_read_info(png_, info_);
    });
  }

 private:
  [[noreturn]] static void OnError(png_structp png, png_const_charp message) {
    PngReader* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof(self->message_) - 1);
    png_longjmp(png, 1);
  }

  static void OnWarning(png_structp, png_const_charp) {}

  static void OnRead(png_structp png, png_bytep to, size_t count) {
    PngReader* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self->rest_.size())
      png_error(png, "truncated, the data ends before the photo does");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_.remove_prefix(count);
  }

  absl::string_view rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[128] = {};
};

int Orientation(PngReader& reader) {
  png_uint_32 size = 0;
  png_bytep block = nullptr;
  const absl::Status status = reader.Try([&] {
    // eXIf may stand behind the pixels. Damage there leaves a photo that is complete.
    if (png_get_eXIf_1(reader.png(), reader.info(), &size, &block) == 0) {
      png_read_end(reader.png(), reader.info());
      png_get_eXIf_1(reader.png(), reader.info(), &size, &block);
    }
  });
  if (!status.ok() || block == nullptr) return 1;
  return ExifOrientation(absl::string_view(reinterpret_cast<const char*>(block), size));
}

// Pillow clips 16-bit grey to 255 rather than scaling it; its other 16-bit modes keep the high
// byte.
void ClipGrey16ToRgb(const uint8_t* big_endian, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, big_endian += 2, rgb += 3) {
    std::memset(rgb, big_endian[0] != 0 ? 255 : big_endian[1], 3);
  }
}

// The sizes stand at a fixed place, which libpng insists on. Looked at before libpng does, so that
// a file that is too large is refused as that, whatever else is wrong with it.
absl::Status CheckDeclaredSize(absl::string_view bytes, int64_t max_pixels) {
  constexpr size_t kIhdr = 12, kWidth = 16, kHeight = 20, kEnd = 24;
  if (bytes.size() < kEnd || bytes.substr(kIhdr, 4) != "IHDR") return absl::OkStatus();
  auto big_endian = [bytes](size_t at) {
    return int64_t{png_get_uint_32(reinterpret_cast<png_const_bytep>(bytes.data() + at))};
  };
  return CheckSize("PNG", big_endian(kWidth), big_endian(kHeight), max_pixels);
}

}  // namespace

absl::StatusOr<Decoded> DecodePng(absl::string_view bytes, const DecodeOptions& options) {
  DLA_RETURN_IF_ERROR(CheckDeclaredSize(bytes, options.max_pixels));
  PngReader reader(bytes);
  if (!reader.ok()) return absl::ResourceExhaustedError("PNG: out of memory");
  png_structp png = reader.png();
  png_infop info = reader.info();
  DLA_RETURN_IF_ERROR(reader.ReadHeader(options.apply_exif_orientation));
  const int64_t width = png_get_image_width(png, info);
  const int64_t height = png_get_image_height(png, info);

  const int depth = png_get_bit_depth(png, info);
  const int color_type = png_get_color_type(png, info);
  const bool grey16 = color_type == PNG_COLOR_TYPE_GRAY && depth == 16;
  size_t row_bytes = 0;
  DLA_RETURN_IF_ERROR(reader.Try([&] {
    if (!grey16) {
      if (depth == 16) png_set_strip_16(png);
      if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
      if (color_type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
      if ((color_type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
      png_set_strip_alpha(png);
    }
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    row_bytes = png_get_rowbytes(png, info);
  }));

  Decoded decoded;
  Image& image = decoded.image;
  image.height = decoded.full_height = static_cast<int>(height);
  image.width = decoded.full_width = static_cast<int>(width);
  image.pixels.resize(image.height * image.row_bytes());
  std::vector<uint8_t> grey(grey16 ? height * row_bytes : 0);
  if (row_bytes != (grey16 ? image.width * size_t{2} : image.row_bytes())) {
    return absl::InternalError(absl::StrCat("PNG: ", row_bytes, " bytes in a row of ", width));
  }
  uint8_t* pixels = grey16 ? grey.data() : image.pixels.data();
  std::vector<png_bytep> rows(height);
  for (int64_t y = 0; y < height; ++y) rows[y] = pixels + y * row_bytes;
  DLA_RETURN_IF_ERROR(reader.Try([&] { png_read_image(png, rows.data()); }));
  if (grey16)
    ClipGrey16ToRgb(grey.data(), static_cast<size_t>(width) * height, image.pixels.data());
  if (options.apply_exif_orientation) decoded.orientation = Orientation(reader);
  return decoded;
}

}  // namespace dla::codec
