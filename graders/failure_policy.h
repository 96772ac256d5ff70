// What happens when a grader can't judge: keys every grader in `graders:` may have, read by GraderPool.
//
//   retries            further tries after an error, a timeout or a dead worker, default 0
//   on_failure         mask (default): the rollout is left out, and the others of its group get bit for bit the advantages of
//                      the group without it; drop_group: so is its group; stop: the run ends with the grader's message
//   on_abstain         mask (default): as a failure; skip: this grader is left out of the rollout's weighted sum
//   max_failure_rate   share of a step's grades; above it the run raises an alarm. Default 1: never
//   deterministic      true (default) says that it scores the same text the same; `rft grade --preflight` checks it
//
// A failure never becomes a reward of 0. Graders without weight decide nothing.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "rft/core/grade.h"
#include "rft/core/grader_spec.h"

namespace rft {

enum class OnFailure { kMask, kDropGroup, kStop };

struct FailurePolicy {
  int64_t retries = 0;
  OnFailure on_failure = OnFailure::kMask;
  bool skip_abstain = false;
  double max_failure_rate = 1.0;
};

// kInvalidArgument: all mistakes of these keys in spec.params, as ParamReader words them.
absl::StatusOr<FailurePolicy> ReadFailurePolicy(const GraderSpec& spec);

// Whether a parameter is one of these, and none of the grader type's own.
bool IsPolicyKey(std::string_view key);

// Neither a score nor an abstention: the grader could not judge.
inline bool IsFailure(const Grade& grade) {
  return !IsScore(grade) && !std::holds_alternative<Abstain>(grade);
}

}  // namespace rft
