// Who asks, as far as sharing the server with others is concerned.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

namespace dla::server {

// Interactive photos come first. Where both wait, one of nine is a bulk photo, so that bulk work
// goes on under any load; it takes at most half of each budget.
enum class Priority { kInteractive, kBulk };
inline constexpr int kPriorities = 2;

// A caller's name, hashed with a seed of this process. Two names that collide share one caller's
// part, nothing worse.
using ClientId = uint64_t;
inline ClientId ClientIdOf(absl::string_view name) { return absl::HashOf(name); }

struct Caller {
  ClientId client = 0;
  Priority priority = Priority::kInteractive;

  friend bool operator==(const Caller&, const Caller&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Caller& caller) {
    return H::combine(std::move(h), caller.client, caller.priority);
  }
};

}  // namespace dla::server
