#include "model/image_codec.h"

#include <new>
#include <opencv2/core.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/format.h"
#include "model/status_macros.h"

namespace dla {
namespace codec {

absl::Status CheckSize(absl::string_view format, int64_t width, int64_t height,
                       int64_t max_pixels) {
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(format, ": no pixels, the header says ", width, " x ", height));
  }
  if (width * height > max_pixels) {
    return absl::InvalidArgumentError(absl::StrCat(format, ": ", width, " x ", height, " is ",
                                                   width * height, " pixels, at most ", max_pixels,
                                                   " are accepted; send a smaller photo"));
  }
  return absl::OkStatus();
}

}  // namespace codec

namespace {

// Turns the photo upright. Orientation 2..8 as EXIF 2.32 numbers them: 5..8 swap the sides.
Image Upright(Image& photo, int orientation) {
  Image upright;
  const bool swaps_sides = orientation >= 5;
  upright.height = swaps_sides ? photo.width : photo.height;
  upright.width = swaps_sides ? photo.height : photo.width;
  upright.pixels.resize(photo.pixels.size());
  const cv::Mat from(photo.height, photo.width, CV_8UC3, photo.pixels.data());
  cv::Mat to(upright.height, upright.width, CV_8UC3, upright.pixels.data());

  constexpr int kTopBottom = 0, kLeftRight = 1, kBoth = -1;
  switch (orientation) {
    case 2:
      cv::flip(from, to, kLeftRight);
      break;
    case 3:
      cv::flip(from, to, kBoth);
      break;
    case 4:
      cv::flip(from, to, kTopBottom);
      break;
    default:
      cv::transpose(from, to);
  }
  if (orientation == 6) cv::flip(to, to, kLeftRight);
  if (orientation == 7) cv::flip(to, to, kBoth);
  if (orientation == 8) cv::flip(to, to, kTopBottom);
  return upright;
}

absl::StatusOr<codec::Decoded> DecodeAsStored(absl::string_view bytes,
                                              const DecodeOptions& options) {
  switch (codec::DetectFormat(bytes)) {
    case codec::Format::kJpeg:
      return codec::DecodeJpeg(bytes, options);
    case codec::Format::kPng:
      return codec::DecodePng(bytes, options);
    case codec::Format::kWebp:
      return codec::DecodeWebp(bytes, options);
    case codec::Format::kOther:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat("not a photo that can be read: got ",
                                                 codec::DescribeContent(bytes),
                                                 ", expected JPEG, PNG or WebP"));
}

}  // namespace

absl::StatusOr<Image> DecodeImage(absl::string_view bytes, const DecodeOptions& options) try {
  DLA_ASSIGN_OR_RETURN(codec::Decoded decoded, DecodeAsStored(bytes, options));
  if (decoded.orientation == 1) return std::move(decoded.image);
  return Upright(decoded.image, decoded.orientation);
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("out of memory while decoding a photo");
} catch (const cv::Exception& error) {
  return absl::InternalError(absl::StrCat("turning a photo upright: ", error.what()));
}

}  // namespace dla
