#include "server/budget.h"

#include "absl/strings/str_cat.h"

namespace dla::server {
namespace {

constexpr int64_t kTimesWhatIsFree = 8;

}  // namespace

Budget::Budget(Options options, const BudgetGauges& gauges)
    : options_(std::move(options)), gauges_(gauges) {
  gauges_.capacity->Increment(static_cast<double>(options_.capacity));
}

Budget::~Budget() { gauges_.capacity->Decrement(static_cast<double>(options_.capacity)); }

absl::StatusOr<Budget::Share> Budget::Take(const Caller& caller, int64_t amount) {
  if (amount == 0) return Share();
  const bool bulk = caller.priority == Priority::kBulk;
  int64_t free = 0;
  int64_t own = 0;
  {
    MutexLock lock(mu_);
    free = options_.capacity - used_;
    const auto found = by_caller_.find(caller);
    own = found == by_caller_.end() ? 0 : found->second;
    const bool fits = amount <= free && (own + amount - 1) / kTimesWhatIsFree < free &&
                      (!bulk || bulk_ == 0 || bulk_ + amount <= (options_.capacity + 1) / 2);
    if (fits || options_.capacity == kUnlimited) {
      used_ += amount;
      if (bulk) bulk_ += amount;
      by_caller_[caller] = own + amount;
      gauges_.used->Increment(static_cast<double>(amount));
      return Share(this, caller, amount);
    }
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      options_.owner, " has no room for ", amount, " more ", options_.what, ": of ",
      options_.capacity, " (", options_.flag, ") ", free, " are free and this caller holds ", own,
      bulk ? "; bulk work gets half" : "; nobody gets all", ". Try again later"));
}

void Budget::Return(const Caller& caller, int64_t amount) {
  MutexLock lock(mu_);
  used_ -= amount;
  if (caller.priority == Priority::kBulk) bulk_ -= amount;
  const auto found = by_caller_.find(caller);
  found->second -= amount;
  if (found->second == 0) by_caller_.erase(found);
  gauges_.used->Decrement(static_cast<double>(amount));
}

int64_t Budget::used() const {
  MutexLock lock(mu_);
  return used_;
}

}  // namespace dla::server
