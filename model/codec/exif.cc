#include "model/codec/exif.h"

#include <libexif/exif-data.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dla::codec {
namespace {

constexpr absl::string_view kExifHeader("Exif\0\0", 6);
// Longest block that a JPEG can hold, and the longest that libexif reads.
constexpr size_t kMaxBlock = 0xffff;

struct ExifDataUnref {
  void operator()(ExifData* data) const { exif_data_unref(data); }
};

}  // namespace

int ExifOrientation(absl::string_view block) {
  block = block.substr(0, kMaxBlock);
  std::string with_header;
  if (!absl::StartsWith(block, kExifHeader)) {
    with_header = absl::StrCat(kExifHeader, block);
    block = with_header;
  }
  std::unique_ptr<ExifData, ExifDataUnref> data(exif_data_new());
  if (data == nullptr) return 1;
  exif_data_load_data(data.get(), reinterpret_cast<const unsigned char*>(block.data()),
                      static_cast<unsigned int>(block.size()));
  // libexif has made it a SHORT where the block has it as another type of integer.
  const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
  if (entry == nullptr || entry->format != EXIF_FORMAT_SHORT || entry->size < 2) return 1;
  const int orientation = exif_get_short(entry->data, exif_data_get_byte_order(data.get()));
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

}  // namespace dla::codec
