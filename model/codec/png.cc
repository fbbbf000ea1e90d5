// PNG through libpng.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/exif.h"
#include "model/codec/image_size.h"
#include "model/codec/pacer.h"
#include "model/status_macros.h"

namespace dla::codec {
namespace {

// Owns a libpng reader over bytes in memory. libpng reports errors by longjmp.
class PngReader {
 public:
  PngReader(absl::string_view bytes, const Proceed& proceed) : rest_(bytes), pacer_(proceed) {
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
    if (!pacer_.status().ok()) return pacer_.status();
    return absl::InvalidArgumentError(absl::StrCat("PNG: ", message_));
  }

  // To be called once, first.
  absl::Status ReadHeader(const ImageSize& size) {
    return Try([this, &size] {
      png_set_read_fn(png_, this, OnRead);
      png_set_user_limits(png_, static_cast<png_uint_32>(size.width),
                          static_cast<png_uint_32>(size.height));
      // Of chunks other than the palette nothing is kept, see below; should libpng keep any for all
      // that, then little.
      png_set_chunk_cache_max(png_, 1);
      png_set_chunk_malloc_max(png_, 1 << 20);
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      // Text and colour profiles are of no use here, and may inflate to gigabytes.
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
      png_read_info(png_, info_);
    });
  }

  // Reads the pixels of an image of so many passes, each over all rows.
  absl::Status ReadRows(std::vector<png_bytep>& rows, int passes, int64_t width) {
    const size_t batch = std::max<int64_t>(1, kPixelsAtOnce / width);
    const size_t last = rows.size() - 1;
    absl::Status status = Try([this, &rows, passes, width, batch, last] {
      rows_begun_ = true;
      for (int pass = 0; pass < passes; ++pass) {
        for (size_t y = 0; y < last; y += batch) {
          const size_t count = std::min(batch, last - y);
          png_read_rows(png_, &rows[y], nullptr, static_cast<png_uint_32>(count));
          if (!pacer_.Go(width * static_cast<int64_t>(count))) png_longjmp(png_, 1);
        }
        png_read_row(png_, rows[last], nullptr);
      }
    });
    return stopped_behind_pixels_ ? absl::OkStatus() : status;
  }

 private:
  static constexpr int64_t kPixelsAtOnce = 1 << 14;
  // With its last row libpng inflates what follows, of any length, only to warn of it.
  static constexpr size_t kMostBehindPixels = 1 << 16;

  bool HasAllPixels() const {
    return rows_begun_ && (png_get_current_row_number(png_) >= png_get_image_height(png_, info_) ||
                           png_get_current_pass_number(png_) >= PNG_INTERLACE_ADAM7_PASSES);
  }

  [[noreturn]] static void OnError(png_structp png, png_const_charp message) {
    PngReader* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof(self->message_) - 1);
    png_longjmp(png, 1);
  }

  static void OnWarning(png_structp, png_const_charp) {}

  static void OnRead(png_structp png, png_bytep to, size_t count) {
    PngReader* self = static_cast<PngReader*>(png_get_io_ptr(png));
    // A byte inflates to as much as a thousand.
    if (!self->pacer_.Go(static_cast<int64_t>(count) * 16)) png_longjmp(png, 1);
    if (self->HasAllPixels()) self->read_behind_pixels_ += count;
    if (self->read_behind_pixels_ > kMostBehindPixels) {
      self->stopped_behind_pixels_ = true;
      png_longjmp(png, 1);
    }
    if (count > self->rest_.size())
      png_error(png, "truncated, the data ends before the photo does");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_.remove_prefix(count);
  }

  absl::string_view rest_;
  Pacer pacer_;
  bool rows_begun_ = false;
  size_t read_behind_pixels_ = 0;
  bool stopped_behind_pixels_ = false;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[128] = {};
};

// From the chunk eXIf, which may stand before or behind the pixels. Not through libpng, which
// allocates what the chunk says before it looks whether so much is there.
int Orientation(absl::string_view bytes) {
  constexpr size_t kSignature = 8, kChunkHeader = 8, kChecksum = 4;
  bytes.remove_prefix(std::min(bytes.size(), kSignature));
  while (bytes.size() >= kChunkHeader) {
    const size_t size = png_get_uint_32(reinterpret_cast<png_const_bytep>(bytes.data()));
    const absl::string_view name = bytes.substr(4, 4);
    bytes.remove_prefix(kChunkHeader);
    if (name == "eXIf") return ExifOrientation(bytes.substr(0, size));
    bytes.remove_prefix(std::min(bytes.size(), size + kChecksum));
  }
  return 1;
}

// Pillow clips 16-bit grey to 255 rather than scaling it; its other 16-bit modes keep the high
// byte.
void ClipGrey16ToRgb(const uint8_t* big_endian, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, big_endian += 2, rgb += 3) {
    std::memset(rgb, big_endian[0] != 0 ? 255 : big_endian[1], 3);
  }
}

}  // namespace

absl::StatusOr<Decoded> DecodePng(absl::string_view bytes, const DecodeOptions& options) {
  // Before libpng looks at it, so that a photo that is too large is refused as that, whatever else
  // is wrong with it.
  DLA_ASSIGN_OR_RETURN(const ImageSize size, PngSize(bytes));
  DLA_RETURN_IF_ERROR(CheckSize("PNG", size.width, size.height, options));
  PngReader reader(bytes, options.proceed);
  if (!reader.ok()) return absl::ResourceExhaustedError("PNG: out of memory");
  png_structp png = reader.png();
  png_infop info = reader.info();
  DLA_RETURN_IF_ERROR(reader.ReadHeader(size));
  const int64_t width = png_get_image_width(png, info);
  const int64_t height = png_get_image_height(png, info);
  DLA_RETURN_IF_ERROR(CheckSize("PNG", width, height, options));

  const int depth = png_get_bit_depth(png, info);
  const int color_type = png_get_color_type(png, info);
  const bool grey16 = color_type == PNG_COLOR_TYPE_GRAY && depth == 16;
  size_t row_bytes = 0;
  int passes = 1;
  DLA_RETURN_IF_ERROR(reader.Try([&] {
    if (!grey16) {
      if (depth == 16) png_set_strip_16(png);
      if (color_type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
      if (color_type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
      if ((color_type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
      png_set_strip_alpha(png);
    }
    passes = png_set_interlace_handling(png);
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
  DLA_RETURN_IF_ERROR(reader.ReadRows(rows, passes, width));
  if (grey16)
    ClipGrey16ToRgb(grey.data(), static_cast<size_t>(width) * height, image.pixels.data());
  if (options.apply_exif_orientation) decoded.orientation = Orientation(bytes);
  return decoded;
}

}  // namespace dla::codec
