#include "graders/failure_policy.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "graders/param_reader.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr std::string_view kKeys[] = {"retries", "on_failure", "on_abstain", "max_failure_rate",
                                      "deterministic"};

}  // namespace

bool IsPolicyKey(std::string_view key) {
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

absl::StatusOr<FailurePolicy> ReadFailurePolicy(const GraderSpec& spec) {
  GraderSpec own = spec;  // these keys alone: the others are the grader type's to check
  for (auto it = own.params.begin(); it != own.params.end();)
    it = IsPolicyKey(it->first) ? std::next(it) : own.params.erase(it);
  ParamReader params(own);
  FailurePolicy policy;
  policy.retries = params.Int("retries", 0, 0, 100);
  const std::string on_failure =
      params.Choice("on_failure", {"mask", "drop_group", "stop"}, "mask");
  if (on_failure == "drop_group") policy.on_failure = OnFailure::kDropGroup;
  if (on_failure == "stop") policy.on_failure = OnFailure::kStop;
  policy.skip_abstain = params.Choice("on_abstain", {"mask", "skip"}, "mask") == "skip";
  policy.max_failure_rate = params.Double("max_failure_rate", 1.0, 0.0);
  if (policy.max_failure_rate > 1.0) params.AddError("max_failure_rate", "is a share: at most 1");
  params.Bool("deterministic", true);
  RFT_RETURN_IF_ERROR(params.Finish());
  return policy;
}

}  // namespace rft
