#include "rollout/zero_variance_filter.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "rollout/rollout_advantages.h"

namespace rft {
namespace {

bool AllTruncated(const Group& group) {
  return !group.rollouts.empty() &&
         std::all_of(group.rollouts.begin(), group.rollouts.end(), [](const Rollout& rollout) {
           return rollout.finish_reason == FinishReason::kLength;
         });
}

}  // namespace

const char* GroupVerdictName(GroupVerdict verdict) {
  static constexpr const char* kNames[] = {"keep",          "all_right",      "all_wrong",
                                           "zero_variance", "too_few_graded", "truncated",
                                           "grader_failed"};
  return kNames[static_cast<int>(verdict)];
}

absl::Status ValidateGroupFilter(const GroupFilterOptions& options) {
  if (options.min_scored < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_scored: expected at least 1, got ", options.min_scored));
  }
  if (!(options.tolerance >= 0.0) || !std::isfinite(options.tolerance)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tolerance: expected at least 0, got ", options.tolerance));
  }
  if (!(options.wrong_at_most < options.right_at_least)) {
    return absl::InvalidArgumentError(
        absl::StrCat("wrong_at_most: expected less than right_at_least (", options.right_at_least,
                     "), got ", options.wrong_at_most));
  }
  return absl::OkStatus();
}

GroupVerdict JudgeGroup(const Group& group, const GroupFilterOptions& options) {
  if (options.drop_all_truncated && AllTruncated(group)) return GroupVerdict::kTruncated;
  std::vector<double> scored;
  for (const std::optional<double>& reward : GroupRewards(group)) {
    if (reward) scored.push_back(*reward);
  }
  if (scored.empty() || scored.size() < static_cast<size_t>(options.min_scored))
    return GroupVerdict::kTooFewGraded;
  const auto [min, max] = std::minmax_element(scored.begin(), scored.end());
  if (!options.drop_zero_variance || *max - *min > options.tolerance) return GroupVerdict::kKeep;
  if (PartsDiffer(group, options.level, options.tolerance)) return GroupVerdict::kKeep;
  if (*min >= options.right_at_least) return GroupVerdict::kAllRight;
  if (*max <= options.wrong_at_most) return GroupVerdict::kAllWrong;
  return GroupVerdict::kZeroVariance;
}

}  // namespace rft
