// JPEG through libjpeg-turbo. Its classic API is used rather than TurboJPEG: that one hides which
// warning came up, and only one of them (the data ends too early) makes a photo unusable.
#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

#include <jpeglib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/exif.h"
#include "model/codec/image_size.h"
#include "model/codec/pacer.h"
#include "model/status_macros.h"

namespace dla::codec {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;

// Owns a libjpeg decompressor over bytes in memory. libjpeg reports errors by longjmp.
class JpegReader {
 public:
  JpegReader(absl::string_view bytes, const DecodeOptions& options)
      : max_scans_(options.max_jpeg_scans), pacer_(options.proceed) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr info) { std::longjmp(Self(info)->jump_, 1); };
    errors_.emit_message = [](j_common_ptr, int) {};  // warnings, as Pillow ignores them
    errors_.output_message = [](j_common_ptr) {};
    info_.client_data = this;

    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.fill_input_buffer = [](j_decompress_ptr info) -> boolean { return EndsTooEarly(info); };
    source_.skip_input_data = [](j_decompress_ptr info, long count) {
      if (count <= 0) return;
      if (static_cast<size_t>(count) > info->src->bytes_in_buffer) EndsTooEarly(info);
      info->src->next_input_byte += count;
      info->src->bytes_in_buffer -= count;
    };
    progress_.progress_monitor = [](j_common_ptr info) {
      JpegReader* self = Self(info);
      if (!self->pacer_.Go(self->work_step_)) info->err->error_exit(info);
      if (self->info_.input_scan_number <= self->max_scans_) return;
      self->too_many_scans_ = true;
      info->err->error_exit(info);
    };
  }

  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  jpeg_decompress_struct& info() { return info_; }

  // To be called once, first.
  absl::Status ReadHeader(bool keep_exif) {
    return Try([this, keep_exif] {
      jpeg_create_decompress(&info_);  // keeps err and client_data
      info_.src = &source_;
      info_.progress = &progress_;
      if (keep_exif) jpeg_save_markers(&info_, kExifMarker, 0xffff);
      jpeg_read_header(&info_, TRUE);
    });
  }

  // How many pixels libjpeg does between two reports of its progress.
  void SetWorkStep(int64_t pixels) { work_step_ = pixels; }

  // Runs calls into libjpeg. Whatever `calls` has on its stack must need no destructor.
  template <typename Calls>
  absl::Status Try(Calls calls) {
    if (setjmp(jump_) == 0) {
      calls();
      return absl::OkStatus();
    }
    if (!pacer_.status().ok()) return pacer_.status();
    if (too_many_scans_) {
      return absl::InvalidArgumentError(
          absl::StrCat("JPEG: ", info_.input_scan_number, " scans or more, at most ", max_scans_,
                       " are accepted; save the photo as an ordinary JPEG"));
    }
    if (failure_ != nullptr) return absl::InvalidArgumentError(absl::StrCat("JPEG: ", failure_));
    char message[JMSG_LENGTH_MAX];
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), message);
    return absl::InvalidArgumentError(absl::StrCat("JPEG: ", message));
  }

 private:
  static JpegReader* Self(j_common_ptr info) { return static_cast<JpegReader*>(info->client_data); }

  static boolean EndsTooEarly(j_decompress_ptr info) {
    const auto common = reinterpret_cast<j_common_ptr>(info);
    Self(common)->failure_ = "truncated, the data ends before the photo does";
    info->err->error_exit(common);
    return FALSE;
  }

  jpeg_decompress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_source_mgr source_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_;
  const char* failure_ = nullptr;  // what libjpeg has no words for
  const int max_scans_;
  bool too_many_scans_ = false;
  Pacer pacer_;
  int64_t work_step_ = 0;
};

int Orientation(const jpeg_decompress_struct& info) {
  for (jpeg_saved_marker_ptr marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const absl::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker == kExifMarker && absl::StartsWith(data, absl::string_view("Exif\0\0", 6))) {
      return ExifOrientation(data);
    }
  }
  return 1;
}

// The largest of 1, 2, 4, 8 that leaves min_short_side pixels; 1 if none does or it is 0.
int ScaleDenominator(const jpeg_decompress_struct& info, int min_short_side) {
  if (min_short_side <= 0) return 1;
  const int64_t short_side = std::min(info.image_width, info.image_height);
  int denominator = 8;
  while (denominator > 1 && (short_side + denominator - 1) / denominator < min_short_side) {
    denominator /= 2;
  }
  return denominator;
}

// round(a * b / 255)
int MultiplyUnit(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Adobe stores inverted ink: 255 is none. Pillow takes every 4-channel JPEG to be so.
void InvertedCmykToRgb(const uint8_t* cmyk, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = static_cast<uint8_t>(light - MultiplyUnit(255 - cmyk[c], light));
    }
  }
}

}  // namespace

absl::StatusOr<Decoded> DecodeJpeg(absl::string_view bytes, const DecodeOptions& options) {
  DLA_ASSIGN_OR_RETURN(const ImageSize size, JpegSize(bytes));
  DLA_RETURN_IF_ERROR(CheckSize("JPEG", size.width, size.height, options));
  JpegReader reader(bytes, options);
  jpeg_decompress_struct& info = reader.info();
  DLA_RETURN_IF_ERROR(reader.ReadHeader(options.apply_exif_orientation));
  DLA_RETURN_IF_ERROR(CheckSize("JPEG", info.image_width, info.image_height, options));
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("JPEG: ", components, " channels, expected 1, 3 or 4"));
  }

  const bool cmyk = components == 4;
  // A photo of several scans is read wholly at first, and told of by rows of coefficient blocks.
  reader.SetWorkStep(int64_t{info.image_width} * DCTSIZE);
  DLA_RETURN_IF_ERROR(reader.Try([&] {
    info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    info.scale_num = 1;
    info.scale_denom = ScaleDenominator(info, options.min_short_side);
    jpeg_start_decompress(&info);
  }));

  Decoded decoded;
  if (options.apply_exif_orientation) decoded.orientation = Orientation(info);
  decoded.full_height = static_cast<int>(info.image_height);
  decoded.full_width = static_cast<int>(info.image_width);
  decoded.reduction = static_cast<int>(info.scale_denom);
  Image& image = decoded.image;
  image.height = static_cast<int>(info.output_height);
  image.width = static_cast<int>(info.output_width);
  image.pixels.resize(image.height * image.row_bytes());
  reader.SetWorkStep(int64_t{info.image_width} * decoded.reduction);  // a row of the result
  std::vector<uint8_t> cmyk_row(cmyk ? size_t{info.output_width} * 4 : 0);
  DLA_RETURN_IF_ERROR(reader.Try([&] {
    while (info.output_scanline < info.output_height) {
      uint8_t* rgb = image.pixels.data() + info.output_scanline * image.row_bytes();
      uint8_t* row = cmyk ? cmyk_row.data() : rgb;
      jpeg_read_scanlines(&info, &row, 1);
      if (cmyk) InvertedCmykToRgb(row, image.width, rgb);
    }
    jpeg_finish_decompress(&info);
  }));
  return decoded;
}

}  // namespace dla::codec
