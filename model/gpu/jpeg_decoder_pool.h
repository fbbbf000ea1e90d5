// A thread-safe JPEG decoder made of some that are not.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "model/gpu/jpeg_decoder.h"

namespace dla::gpu {

// Used by one thread at a time; otherwise as JpegDecoder.
class JpegLane {
 public:
  virtual ~JpegLane() = default;
  virtual absl::Status Decode(const JpegPhoto& photo, uint8_t* out) = 0;
};

// Makes lanes as they are needed, and a new one for each that failed: what state it is in nobody
// knows. UNIMPLEMENTED is no failure. After `kMaxFailures` failures in a row, or one UNAVAILABLE,
// every photo gets UNAVAILABLE at once.
class JpegDecoderPool final : public JpegDecoder {
 public:
  using MakeLane = std::function<absl::StatusOr<std::unique_ptr<JpegLane>>()>;
  static constexpr int kMaxFailures = 8;

  // `make_lane` is called by several threads at once. max_lanes >= 1: who comes when all are in use
  // waits.
  JpegDecoderPool(int max_lanes, MakeLane make_lane);

  absl::Status Decode(const JpegPhoto& photo, uint8_t* out) override;

 private:
  const int max_lanes_;
  const MakeLane make_lane_;
  std::mutex mutex_;
  std::condition_variable returned_;
  // All guarded by mutex_.
  std::vector<std::unique_ptr<JpegLane>> idle_;
  int in_use_ = 0;
  int failures_ = 0;  // in a row
  absl::Status lost_;
};

}  // namespace dla::gpu
