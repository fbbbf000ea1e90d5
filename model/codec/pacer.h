// Lets the caller of a decoder end it.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "model/image_codec.h"

namespace dla::codec {

// Asks DecodeOptions::proceed once for so much work. For one thread; `proceed` outlives it.
class Pacer {
 public:
  explicit Pacer(const Proceed& proceed) : proceed_(proceed) {}

  // To be told of work that was done or lies just ahead. False: stop, status() says why.
  bool Go(int64_t pixels) {
    work_ += pixels;
    return work_ < kPixelsBetween || Ask();
  }

  // Asks at once.
  bool Ask() {
    work_ = 0;
    if (status_.ok() && proceed_ != nullptr) status_ = proceed_();
    return status_.ok();
  }

  const absl::Status& status() const { return status_; }

 private:
  static constexpr int64_t kPixelsBetween = 1 << 16;  // 0.3 to 1 ms

  const Proceed& proceed_;
  int64_t work_ = 0;
  absl::Status status_;
};

}  // namespace dla::codec
