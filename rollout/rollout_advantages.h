// Advantages of rollouts: of a whole rollout, of its turns, of its tokens. Torch-free, pure.
//
// A turn is a model segment: what the model wrote until a tool or the environment answered. With AdvantageLevel::kTurn a turn
// gets the advantage of its own reward (ComputeTurnAdvantages), otherwise every turn gets the rollout's; Score::token_advantages
// come on top, token by token. The sum is held within +-AdvantageOptions::clip.
// Example: grades turn_scores {0.2, 0} with weight 1 and a plain score 1 with weight 0.5: turn rewards {0.2, 0.5}.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "rft/core/types.h"
#include "rollout/advantage.h"

namespace rft {

// Completion tokens of each turn, in order.
std::vector<int64_t> TurnLengths(const Rollout& rollout);

// Reward of each turn: weight * Score::turn_scores, and on the last turn what is left of `reward` (scores without parts,
// penalties). Empty: not scored, or there is no turn.
std::vector<double> TurnRewards(const Rollout& rollout);

// weight * Score::token_advantages of the scored rollout, one per completion token; empty: no grader with weight gave any.
std::vector<double> GivenTokenAdvantages(const Rollout& rollout);

// Whether the group has something to learn from although its rewards are equal: turns of the same number (at level turn) whose
// rewards differ by more than `tolerance`, or a token advantage other than 0.
bool PartsDiffer(const Group& group, AdvantageLevel level, double tolerance);

struct RolloutAdvantages {
  double mean = 0.0;          // over the completion's tokens
  std::vector<float> tokens;  // one per completion token; empty: `mean` throughout
};

// Taken off the reward of a turn before advantages.
using TurnPenalty = std::function<double(const Rollout& rollout, size_t turn)>;

// [group][rollout]; exact zeros for unscored rollouts.
std::vector<std::vector<RolloutAdvantages>> ComputeRolloutAdvantages(
    const AdvantageOptions& options, absl::Span<const Group> groups,
    const TurnPenalty& penalty = nullptr);

// Sets Rollout::advantage and Rollout::token_advantages throughout the step.
void AssignAdvantages(const AdvantageOptions& options, absl::Span<Group> groups);

// One per token of all segments; `mean` for tokens that are not the model's.
std::vector<float> SpreadOverTokens(const Rollout& rollout, double mean,
                                    const std::vector<float>& tokens);

}  // namespace rft
