// The budgets of the server and of each model, and what requests hold of them.
#pragma once

#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "server/budget.h"
#include "server/metrics.h"

namespace dla::server {

// 0: as much as comes.
struct BudgetLimits {
  int64_t requests = 0;  // accepted and not yet answered
  int64_t bytes = 0;     // of their messages
  int64_t pixels = 0;    // of photos that are not yet decoded, as their headers declare them
};

// Of the server or of one model. Thread-safe.
struct Budgets {
  // `owner` as in Budget; `flags` is what the flags' names begin with, "--" or "--model-".
  Budgets(const BudgetLimits& limits, const std::string& owner, const std::string& flags,
          const BudgetMetrics& metrics);

  Budget requests;
  Budget bytes;
  Budget pixels;
};

// Parts of several budgets.
class Shares {
 public:
  void Add(Budget::Share share) { shares_.push_back(std::move(share)); }
  void Return() { shares_.clear(); }

 private:
  absl::InlinedVector<Budget::Share, 4> shares_;
};

class ServedModel;

// A request with a message of so many bytes comes in. RESOURCE_EXHAUSTED, with RetryInfo, when the
// server or the model has no room for it.
absl::StatusOr<Shares> AdmitRequest(Budgets& server, ServedModel& model, const Caller& caller,
                                    int64_t bytes);

}  // namespace dla::server
