// One line of rollouts.jsonl: what a person reads to see what the model did and how it was judged.
//
//   {"step", "group", "row", "index", "prompt", "completion", "finish_reason", "num_tokens", "version",
//    "scored", "reward" (null unless scored), "advantage", "trained", "dropped" (null or the reason),
//    "grades": [{"grader", "weight", "kind", "score"?, "sub_scores"?, "turn_scores"?, "reason"}]}
#pragma once

#include <string>

#include "rft/core/types.h"
#include "rollout/zero_variance_filter.h"

namespace rft {

// `prompt`: the group's prompt as text. `verdict`: why the group was dropped, or kKeep.
std::string RolloutLine(const Group& group, const Rollout& rollout, const std::string& prompt,
                        GroupVerdict verdict, bool trained);

}  // namespace rft
