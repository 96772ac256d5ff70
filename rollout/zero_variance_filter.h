// Whether a finished group can teach anything. Torch-free, pure; the orchestrator counts the
// reasons and refills.
//
// A group is dropped, with the first reason that applies:
//   (grader_failed   a grader with on_failure: drop_group could not judge a rollout; the orchestrator looks for that)
//   truncated        every rollout hit the token limit, if drop_all_truncated
//   too_few_graded   fewer than min_scored rollouts have a finite reward: no baseline
//   all_right        equal rewards, every one >= right_at_least
//   all_wrong        equal rewards, every one <= wrong_at_most
//   zero_variance    equal rewards in between (for instance all got the format but not the answer)
// "Equal" is max - min <= tolerance over the scored rollouts. With the default tolerance of 0 that
// is exact equality: {0.1 + 0.2, 0.3} is kept. A group with equal rewards is kept where its parts teach something
// (PartsDiffer in rollout_advantages.h). Source: 2503.14476 sec. 3.2 (dynamic sampling), with
// equality in place of accuracy 0 or 1.
//
// right_at_least and wrong_at_most only name the reason; they never decide whether a group is kept.
// Their defaults suit rewards in 0..1 (graders' scores with weights that add up to 1): set them to
// the best and worst reward otherwise.
#pragma once

#include "absl/status/status.h"
#include "rft/core/types.h"
#include "rollout/advantage.h"

namespace rft {

enum class GroupVerdict {
  kKeep,
  kAllRight,
  kAllWrong,
  kZeroVariance,
  kTooFewGraded,
  kTruncated,
  kGraderFailed
};

// "keep", "all_right", "all_wrong", "zero_variance", "too_few_graded", "truncated",
// "grader_failed": the word in metrics and records.
const char* GroupVerdictName(GroupVerdict verdict);

struct GroupFilterOptions {
  bool drop_zero_variance = true;  // false: equal rewards are kept (their advantages are 0)
  bool drop_all_truncated = false;
  int min_scored = 2;                               // at least 1
  double tolerance = 0.0;                           // reward units
  double right_at_least = 1.0;                      // reward units
  double wrong_at_most = 0.0;                       // reward units
  AdvantageLevel level = AdvantageLevel::kRollout;  // kTurn: turns that differ keep the group
};

// kInvalidArgument naming the field that is out of range.
absl::Status ValidateGroupFilter(const GroupFilterOptions& options);

GroupVerdict JudgeGroup(const Group& group, const GroupFilterOptions& options);

}  // namespace rft
