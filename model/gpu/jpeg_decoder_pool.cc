#include "model/gpu/jpeg_decoder_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::gpu {

JpegDecoderPool::JpegDecoderPool(int max_lanes, MakeLane make_lane)
    : max_lanes_(max_lanes), make_lane_(std::move(make_lane)) {}

absl::Status JpegDecoderPool::Decode(const JpegPhoto& photo, uint8_t* out) {
  std::unique_ptr<JpegLane> lane;
  {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [this] { return in_use_ < max_lanes_ || !lost_.ok(); });
    if (!lost_.ok()) return lost_;
    ++in_use_;
    if (!idle_.empty()) {
      lane = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  absl::Status status;
  if (lane == nullptr) {
    absl::StatusOr<std::unique_ptr<JpegLane>> made = make_lane_();
    status = made.status();
    if (made.ok()) lane = *std::move(made);
  }
  if (lane != nullptr) status = lane->Decode(photo, out);
  const bool failed = !status.ok() && !absl::IsUnimplemented(status);
  if (failed) lane.reset();  // before its place is free: it holds memory of the card

  std::vector<std::unique_ptr<JpegLane>> released;
  {
    const std::lock_guard lock(mutex_);
    --in_use_;
    if (status.ok()) failures_ = 0;
    if (failed) ++failures_;
    if (absl::IsUnavailable(status)) {
      lost_ = status;
    } else if (failures_ >= kMaxFailures && lost_.ok()) {
      lost_ = absl::UnavailableError(
          absl::StrCat(failures_, " photos in a row failed, the last one: ", status.message()));
    }
    if (!lost_.ok()) released.swap(idle_);
    if (lane != nullptr) (lost_.ok() ? idle_ : released).push_back(std::move(lane));
    if (failed && !lost_.ok()) status = lost_;
  }
  returned_.notify_all();
  return status;
}

}  // namespace dla::gpu
