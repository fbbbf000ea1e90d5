// Early return for absl::Status and absl::StatusOr, which Abseil itself does not ship.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define DLA_RETURN_IF_ERROR(expr)                                              \
  do {                                                                         \
    if (absl::Status dla_status = (expr); !dla_status.ok()) return dla_status; \
  } while (false)

#define DLA_CONCAT_INNER(a, b) a##b
#define DLA_CONCAT(a, b) DLA_CONCAT_INNER(a, b)

// DLA_ASSIGN_OR_RETURN(auto value, MakeValue());
#define DLA_ASSIGN_OR_RETURN(lhs, expr) \
  DLA_ASSIGN_OR_RETURN_IMPL(DLA_CONCAT(dla_or_, __LINE__), lhs, expr)
#define DLA_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) return result.status();          \
  lhs = *std::move(result)
