#include "model/codec/jpeg_writer.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>

#include "absl/strings/str_cat.h"

namespace dla::codec {
namespace {

// Owns a libjpeg compressor to memory. libjpeg reports errors by longjmp.
class JpegWriter {
 public:
  JpegWriter() {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr info) {
      std::longjmp(static_cast<JpegWriter*>(info->client_data)->jump_, 1);
    };
    errors_.output_message = [](j_common_ptr) {};
    info_.client_data = this;
  }
  ~JpegWriter() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

  // To be called once. Nothing on its stack needs a destructor.
  bool Write(const Image& image, int quality) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_compress(&info_);  // keeps err and client_data
    jpeg_mem_dest(&info_, &bytes_, &size_);
    info_.image_width = static_cast<JDIMENSION>(image.width);
    info_.image_height = static_cast<JDIMENSION>(image.height);
    info_.input_components = 3;
    info_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, quality, TRUE);
    jpeg_start_compress(&info_, TRUE);
    while (info_.next_scanline < info_.image_height) {
      auto* row =
          const_cast<JSAMPROW>(image.pixels.data() + info_.next_scanline * image.row_bytes());
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

  std::string bytes() const { return {reinterpret_cast<const char*>(bytes_), size_}; }
  std::string error() {
    char message[JMSG_LENGTH_MAX];
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), message);
    return message;
  }

 private:
  jpeg_compress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  std::jmp_buf jump_;
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

absl::StatusOr<std::string> WriteJpeg(const Image& image, int quality) {
  JpegWriter writer;
  if (!writer.Write(image, quality)) {
    return absl::InvalidArgumentError(
        absl::StrCat("writing a JPEG of ", image.width, " x ", image.height, ": ", writer.error()));
  }
  return writer.bytes();
}

}  // namespace dla::codec
