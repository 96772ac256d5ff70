// RFT_RETURN_IF_ERROR(expr) and RFT_ASSIGN_OR_RETURN(lhs, expr): early return for absl::Status / absl::StatusOr.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RFT_RETURN_IF_ERROR(expr)                                                 \
  do {                                                                            \
    if (absl::Status rft_status_ = (expr); !rft_status_.ok()) return rft_status_; \
  } while (false)

#define RFT_CONCAT_INNER_(a, b) a##b
#define RFT_CONCAT_(a, b) RFT_CONCAT_INNER_(a, b)
#define RFT_ASSIGN_OR_RETURN(lhs, expr) \
  RFT_ASSIGN_OR_RETURN_IMPL_(RFT_CONCAT_(rft_statusor_, __LINE__), lhs, expr)
#define RFT_ASSIGN_OR_RETURN_IMPL_(var, lhs, expr) \
  auto var = (expr);                               \
  if (!var.ok()) return std::move(var).status();   \
  lhs = std::move(var).value()
