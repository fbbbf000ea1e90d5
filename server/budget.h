// How much of something may be in use at once, and how much of it one caller may hold.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/caller.h"
#include "server/metrics.h"
#include "server/mutex.h"

namespace dla::server {

// Requests, bytes, pixels, places in a queue.
//
// A caller may hold eight times what is free (dynamic thresholds, Choudhury and Hahne 1998): alone
// it gets 8/9 of a large budget, and whoever else comes finds room. Of a small one, up to 8, it may
// hold all. Bulk photos together get half. An unused budget gives any caller up to all of it.
//
// Thread-safe. Must outlive its shares.
class Budget {
 public:
  static constexpr int64_t kUnlimited = 0;

  struct Options {
    int64_t capacity = kUnlimited;
    std::string owner;  // "model \"dla34\"", "the server"
    std::string what;   // "photos that wait"
    std::string flag;   // which sets the capacity: "--queue-capacity"
  };
  // A part that is in use; given back when destroyed.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)),
          caller_(other.caller_),
          amount_(other.amount_) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(caller_, other.caller_);
      std::swap(amount_, other.amount_);
      return *this;
    }
    ~Share() { Return(); }

    // Gives it back now. Idempotent.
    void Return() {
      if (budget_ != nullptr) std::exchange(budget_, nullptr)->Return(caller_, amount_);
    }

   private:
    friend class Budget;
    Share(Budget* budget, const Caller& caller, int64_t amount)
        : budget_(budget), caller_(caller), amount_(amount) {}

    Budget* budget_ = nullptr;
    Caller caller_;
    int64_t amount_ = 0;
  };

  // Other budgets may add to the same gauges.
  Budget(Options options, const BudgetGauges& gauges);
  ~Budget();

  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // RESOURCE_EXHAUSTED, without RetryInfo, when so much is not free or is more than the caller's
  // part. amount >= 0.
  absl::StatusOr<Share> Take(const Caller& caller, int64_t amount);

  int64_t used() const;
  int64_t capacity() const { return options_.capacity; }

 private:
  void Return(const Caller& caller, int64_t amount);

  const Options options_;
  const BudgetGauges gauges_;

  mutable Mutex mu_;
  int64_t used_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t bulk_ ABSL_GUARDED_BY(mu_) = 0;                                // of used_
  absl::flat_hash_map<Caller, int64_t> by_caller_ ABSL_GUARDED_BY(mu_);  // none is 0
};

}  // namespace dla::server
