// What a decoder says of a photo that it does not take.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/string_view.h"
#include "model/image_codec.h"

namespace dla {

// Expects a refusal and gives its words.
inline std::string Refusal(absl::string_view bytes, const DecodeOptions& options = {}) {
  const absl::Status status = DecodeImage(bytes, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

}  // namespace dla
