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
  std::string text = absl::StrCat("memory: ", BytesText(plan.total_bytes));
  if (!plan.device.empty()) absl::StrAppend(&text, " on ", plan.device);
  if (plan.limit_bytes > 0) absl::StrAppend(&text, " of ", BytesText(plan.limit_bytes));
  if (!plan.device.empty()) absl::StrAppend(&text, ", ", BytesText(plan.host_bytes), " here");
  absl::StrAppend(&text, "; micro-batches of up to ", plan.token_budget, " tokens");
  for (const MemoryItem& item : plan.items)
    absl::StrAppendFormat(&text, "\n  %-12s %9s  %s%s", item.name, BytesText(item.bytes),
                          item.on_device ? absl::StrCat("on ", plan.device, ": ") : "", item.what);
  if (!plan.device.empty())
    absl::StrAppend(&text, "\n  not in it: what torch's libraries, allocator and kernels take on ",
                    plan.device, " for themselves; activations there are counted, not measured",
                    plan.limit_bytes > 0 ? ""
                                         : ". What it has is not known: trainer.memory_mb sets "
                                           "a limit");
  return text;
}

}  // namespace rft
