// A queue that callers take turns in.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "server/caller.h"

namespace dla::server {

// Callers of one priority take turns, one item each, so what a caller waits for is its own items
// and as many of each other caller, however many those have queued. A caller's items keep their
// order. Interactive items come first, but every ninth is a bulk one while both wait.
//
// With one caller it is first in, first out. Not thread-safe.
template <typename T>
class FairQueue {
 public:
  void Push(const Caller& caller, T item) {
    Lane& lane = LaneOf(caller.priority);
    auto [found, is_new] = lane.by_client.try_emplace(caller.client);
    if (is_new) {
      lane.turns.push_back({.client = caller.client, .items = {}});
      found->second = std::prev(lane.turns.end());
    }
    found->second->items.push_back(std::move(item));
    ++lane.size;
  }

  // The queue is not empty.
  T Pop() {
    Lane& interactive = LaneOf(Priority::kInteractive);
    Lane& bulk = LaneOf(Priority::kBulk);
    if (bulk.size == 0) return Pop(interactive);
    if (interactive.size == 0 || passed_over_ == kInteractivePerBulk) {
      passed_over_ = 0;
      return Pop(bulk);
    }
    ++passed_over_;
    return Pop(interactive);
  }

  bool empty() const { return size() == 0; }
  size_t size() const { return lanes_[0].size + lanes_[1].size; }

  // About how many items go before one that `caller` would push now, if nobody else comes.
  size_t Ahead(const Caller& caller) const {
    const Lane& lane = LaneOf(caller.priority);
    const auto found = lane.by_client.find(caller.client);
    const bool known = found != lane.by_client.end();
    const size_t own = known ? found->second->items.size() : 0;
    const size_t others = lane.turns.size() - (known ? 1 : 0);
    const size_t ahead = std::min(lane.size, own + (own + 1) * others);
    const bool interactive = caller.priority == Priority::kInteractive;
    const Lane& other = LaneOf(interactive ? Priority::kBulk : Priority::kInteractive);
    return ahead + std::min(other.size, interactive ? ahead / kInteractivePerBulk
                                                    : (ahead + 1) * kInteractivePerBulk);
  }

  // Calls `visit` with each caller's oldest item.
  template <typename Visit>
  void VisitOldest(Visit visit) const {
    for (const Lane& lane : lanes_) {
      for (const Line& line : lane.turns) visit(line.items.front());
    }
  }

 private:
  static constexpr size_t kInteractivePerBulk = 8;

  struct Line {
    ClientId client;
    std::deque<T> items;  // at least one
  };
  struct Lane {
    std::list<Line> turns;  // the next one first
    absl::flat_hash_map<ClientId, typename std::list<Line>::iterator> by_client;
    size_t size = 0;
  };

  Lane& LaneOf(Priority priority) { return lanes_[static_cast<size_t>(priority)]; }
  const Lane& LaneOf(Priority priority) const { return lanes_[static_cast<size_t>(priority)]; }

  static T Pop(Lane& lane) {
    Line& line = lane.turns.front();
    T item = std::move(line.items.front());
    line.items.pop_front();
    --lane.size;
    if (line.items.empty()) {
      lane.by_client.erase(line.client);
      lane.turns.pop_front();
    } else {
      lane.turns.splice(lane.turns.end(), lane.turns, lane.turns.begin());
    }
    return item;
  }

  std::array<Lane, kPriorities> lanes_;
  size_t passed_over_ = 0;  // bulk, by interactive items
};

}  // namespace dla::server
