#include "server/admission.h"

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"
#include "server/served_model.h"

namespace dla::server {

Budgets::Budgets(const BudgetLimits& limits, const std::string& owner, const std::string& flags,
                 const BudgetMetrics& metrics)
    : requests({.capacity = limits.requests,
                .owner = owner,
                .what = "requests",
                .flag = absl::StrCat(flags, "max-requests-in-flight")},
               metrics.requests),
      bytes({.capacity = limits.bytes,
             .owner = owner,
             .what = "bytes of requests",
             .flag = absl::StrCat(flags, "max-bytes-in-flight")},
            metrics.bytes),
      pixels({.capacity = limits.pixels,
              .owner = owner,
              .what = "pixels to decode",
              .flag = absl::StrCat(flags, "max-pixels-in-flight")},
             metrics.pixels) {}

absl::StatusOr<Shares> AdmitRequest(Budgets& server, ServedModel& model, const Caller& caller,
                                    int64_t bytes) {
  struct {
    Budget& budget;
    int64_t amount;
    Refusal refusal;
  } const demands[] = {{server.requests, 1, Refusal::kRequests},
                       {model.budgets().requests, 1, Refusal::kRequests},
                       {server.bytes, bytes, Refusal::kBytes},
                       {model.budgets().bytes, bytes, Refusal::kBytes}};
  Shares shares;
  for (const auto& demand : demands) {
    absl::StatusOr<Budget::Share> share = demand.budget.Take(caller, demand.amount);
    if (!share.ok()) {
      model.metrics().CountRefused(demand.refusal);
      return WithRetryInfo(share.status(), model.PredictedWait(caller));
    }
    shares.Add(*std::move(share));
  }
  return shares;
}

}  // namespace dla::server
