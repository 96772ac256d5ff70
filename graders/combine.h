// From grades to the reward of one rollout.
#pragma once

#include <string>
#include <vector>

#include "rft/core/types.h"

namespace rft {

struct CombinedReward {
  bool scored = false;
  double reward = 0.0;  // 0 and meaningless unless scored
  std::string why_not;  // unless scored: "format: timeout: no answer within 10 s"
};

// reward = sum of weight * score over the graders whose weight is not 0, in the order given.
//
// Scored only if every one of those graders gave a Score, and there is one. An Abstain masks the rollout as an error does:
// leaving its weight out would put this rollout on another scale than the rest of its group. A grader with weight 0 is
// reported and otherwise without effect, whatever it says.
//
// Example: weights 1, 0.5, 0 and grades Score 1, Score 0.4, Error: reward 1.2. With Abstain in second place: not scored.
CombinedReward Combine(const std::vector<NamedGrade>& grades);

// The grade itself, or a GradeError if it is a Score with parts that do not fit the rollout: not one per turn (model segment),
// not one per completion token, not finite. A rollout without segments is one turn of unknown length.
Grade CheckParts(const Rollout& rollout, Grade grade);

}  // namespace rft
