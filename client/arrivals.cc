#include "client/arrivals.h"

namespace dla::client {

ArrivalSchedule::ArrivalSchedule(Arrivals arrivals, double rate, uint32_t seed)
    : arrivals_(arrivals), rate_(rate), random_(seed), gap_(rate) {}

std::chrono::nanoseconds ArrivalSchedule::Next() {
  if (arrivals_ == Arrivals::kPoisson) {
    seconds_ += gap_(random_);
  } else {
    seconds_ = static_cast<double>(count_++) / rate_;  // a sum would drift
  }
  // Far beyond any run; the conversion would overflow.
  constexpr double kLongest = 1e9;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(seconds_ < kLongest ? seconds_ : kLongest));
}

}  // namespace dla::client
