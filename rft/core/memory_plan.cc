#include "rft/core/memory_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rft {

std::string BytesText(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes >= 1'000'000'000 ? absl::StrFormat("%.2f GB", value / 1e9)
                                : absl::StrFormat("%.0f MB", value / 1e6);
}

std::string MemoryPlanText(const MemoryPlan& plan) {
  std::string text =
      absl::StrCat("memory: ", BytesText(plan.total_bytes), " of ", BytesText(plan.limit_bytes),
                   "; micro-batches of up to ", plan.token_budget, " tokens");
  for (const MemoryItem& item : plan.items)
    absl::StrAppendFormat(&text, "\n  %-12s %9s  %s", item.name, BytesText(item.bytes), item.what);
  return text;
}

}  // namespace rft
