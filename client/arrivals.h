// When the requests of an open loop are due.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

namespace dla::client {

enum class Arrivals {
  kPoisson,   // at random, as from many callers who know nothing of each other
  kConstant,  // one after the other, at equal distances
};

// An endless row of times. It depends on nothing but its arguments. Not thread-safe.
class ArrivalSchedule {
 public:
  // `rate` > 0 requests a second. `seed` of the random times.
  ArrivalSchedule(Arrivals arrivals, double rate, uint32_t seed);

  // The next time, counted from the start; never earlier than the one before. The first constant
  // one is at once, the first random one after a gap.
  std::chrono::nanoseconds Next();

 private:
  const Arrivals arrivals_;
  const double rate_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> gap_;
  double seconds_ = 0;
  int64_t count_ = 0;
};

}  // namespace dla::client
