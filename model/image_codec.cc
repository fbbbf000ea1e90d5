#include "model/image_codec.h"

#include <algorithm>
#include <new>
#include <opencv2/core.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/codec/decoders.h"
#include "model/codec/format.h"
#include "model/codec/image_size.h"
#include "model/codec/turn.h"
#include "model/status_macros.h"

namespace dla {
namespace codec {

absl::Status CheckSize(absl::string_view format, int64_t width, int64_t height,
                       const DecodeOptions& options) {
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(format, ": no pixels, the header says ", width, " x ", height));
  }
  if (std::max(width, height) > options.max_side) {
    return absl::InvalidArgumentError(
        absl::StrCat(format, ": ", width, " x ", height, " has a side of ", std::max(width, height),
                     " pixels, at most ", options.max_side, " are accepted; send a smaller photo"));
  }
  if (width * height > options.max_pixels) {
    return absl::InvalidArgumentError(absl::StrCat(
        format, ": ", width, " x ", height, " is ", width * height, " pixels, at most ",
        options.max_pixels, " are accepted; send a smaller photo"));
  }
  return absl::OkStatus();
}

}  // namespace codec

namespace {

// OpenCV tells standard error of every exception that it throws, unless it has a handler.
void KeepOpenCvQuiet() {
  static const bool once = [] {
    cv::redirectError([](int, const char*, const char*, const char*, int, void*) { return 0; });
    return true;
  }();
  (void)once;
}

Image Apply(const codec::Turn& turn, Image image) {
  KeepOpenCvQuiet();
  if (turn.transpose) {
    Image transposed;
    transposed.height = image.width;
    transposed.width = image.height;
    transposed.pixels.resize(image.pixels.size());
    const cv::Mat from(image.height, image.width, CV_8UC3, image.pixels.data());
    cv::Mat to(transposed.height, transposed.width, CV_8UC3, transposed.pixels.data());
    cv::transpose(from, to);
    image = std::move(transposed);
  }
  if (turn.flip_x || turn.flip_y) {
    cv::Mat pixels(image.height, image.width, CV_8UC3, image.pixels.data());
    cv::flip(pixels, pixels, turn.flip_x && turn.flip_y ? -1 : turn.flip_x ? 1 : 0);
  }
  return image;
}

DecodedImage Upright(codec::Decoded decoded) {
  const codec::Turn turn(decoded.orientation);
  DecodedImage photo;
  photo.image = Apply(turn, std::move(decoded.image));
  photo.full_height = turn.transpose ? decoded.full_width : decoded.full_height;
  photo.full_width = turn.transpose ? decoded.full_height : decoded.full_width;
  photo.region.height = static_cast<double>(photo.full_height) / decoded.reduction;
  photo.region.width = static_cast<double>(photo.full_width) / decoded.reduction;
  if (turn.flip_y) photo.region.top = photo.image.height - photo.region.height;
  if (turn.flip_x) photo.region.left = photo.image.width - photo.region.width;
  return photo;
}

absl::Status NoPhoto(absl::string_view bytes) {
  return absl::InvalidArgumentError(absl::StrCat("not a photo that can be read: got ",
                                                 codec::DescribeContent(bytes),
                                                 ", expected JPEG, PNG or WebP"));
}

absl::StatusOr<codec::Decoded> DecodeAsStored(absl::string_view bytes,
                                              const DecodeOptions& options) {
  if (options.proceed != nullptr) DLA_RETURN_IF_ERROR(options.proceed());
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
  return NoPhoto(bytes);
}

}  // namespace

absl::StatusOr<ImageSize> ReadImageSize(absl::string_view bytes) {
  switch (codec::DetectFormat(bytes)) {
    case codec::Format::kJpeg:
      return codec::JpegSize(bytes);
    case codec::Format::kPng:
      return codec::PngSize(bytes);
    case codec::Format::kWebp:
      return codec::WebpSize(bytes);
    case codec::Format::kOther:
      break;
  }
  return NoPhoto(bytes);
}

absl::StatusOr<DecodedImage> DecodeImage(absl::string_view bytes,
                                         const DecodeOptions& options) try {
  DLA_ASSIGN_OR_RETURN(codec::Decoded decoded, DecodeAsStored(bytes, options));
  return Upright(std::move(decoded));
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("out of memory while decoding a photo");
} catch (const cv::Exception& error) {
  return absl::InternalError(absl::StrCat("turning a photo upright: ", error.what()));
}

}  // namespace dla
