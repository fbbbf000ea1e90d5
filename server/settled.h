// Files that somebody may be writing while they are read.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace dla::server {

// Takes what is read of files again and again, and tells what became of them. T is comparable.
// Not thread-safe.
template <typename T>
class Settled {
 public:
  // `value` is what is in use.
  explicit Settled(T value) : used_(value), seen_(std::move(value)) {}

  // True if used() has changed: to what this look and the one before have both seen, or to what
  // this one sees where `at_once`. An error, seen twice likewise, changes nothing.
  bool Look(absl::StatusOr<T> now, bool at_once) {
    const bool settled = at_once || now == seen_;
    seen_ = std::move(now);
    if (!settled) return false;
    error_ = seen_.status();
    if (!seen_.ok() || *seen_ == used_) return false;
    used_ = *seen_;
    return true;
  }

  const T& used() const { return used_; }

  // Why the files cannot be used; OK if they can.
  const absl::Status& error() const { return error_; }

 private:
  T used_;
  absl::StatusOr<T> seen_;
  absl::Status error_;
};

}  // namespace dla::server
