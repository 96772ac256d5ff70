// Rewards of a step's groups to advantages. Torch-free, pure.
//
//   grpo                   (r - mean) / (std + eps)                                2402.03300
//   dr-grpo                r - mean                                                2503.20783
//   rloo                   (r - mean) n / (n - 1)                                  2402.14740
//   max-rl                 (r - mean) / (mean + eps): rare successes weigh most    2602.02710
//   opo                    r - sum(|y| r) / sum |y|: length-weighted baseline      2505.23585
//   pass-k                 best: (r_max - r_2nd) / (std + eps); the others 0       2503.19595
//   pass-at-k              (mean best of the k-subsets with it - of all) / (std of all + eps)  2508.10751
//   batch-std              (r - mean) / (std of the whole step + eps)
//   gpg                    (rows / rows with a reward other than 0) (r - mean)     2504.02546
//   reinforce-pp           r, whitened over the step's tokens                      2501.03262
//   reinforce-pp-baseline  r - mean, whitened over the step's tokens               2501.03262
// then times 1 + difficulty_weight (1 - mean reward, held within [0, 1]): hard prompts count more;
// then held within +-clip.
//
// mean, std and n are the group's, over scored rollouts only; std has n - 1. Whitening: minus the
// mean, over sqrt(variance + 1e-8), every rollout counted once per token. An unscored rollout (no
// reward, or a reward that is not finite) gets 0 and has no vote: the others get bit for bit what
// the step without it would give. A group with one scored rollout, or with equal rewards, gets exact
// zeros (before whitening), never NaN.
// Worked example: rewards {1, 0, -, 0}: mean 1/3, std 0.577, grpo {1.155, -0.577, 0, -0.577}.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "rft/core/types.h"

namespace rft {

enum class AdvantageKind {
  kGrpo,
  kDrGrpo,
  kRloo,
  kMaxRl,
  kOpo,
  kPassK,
  kBatchStd,
  kGpg,
  kReinforcePp,
  kReinforcePpBaseline,
  kPassAtK,
};

// What a reward, and so an advantage, belongs to (rollout/rollout_advantages.h).
enum class AdvantageLevel { kRollout, kTurn };

// "grpo", "dr-grpo", ... ("dr_grpo" too); kInvalidArgument lists them.
absl::StatusOr<AdvantageKind> AdvantageKindFromName(std::string_view name);
const char* AdvantageKindName(AdvantageKind kind);

struct AdvantageOptions {
  AdvantageKind kind = AdvantageKind::kGrpo;
  double eps = 1e-6;               // added to a deviation that is divided by
  double clip = 0.0;               // 0: off
  double difficulty_weight = 0.0;  // at least 0; expects rewards within [0, 1]
  int64_t k = 4;                   // pass-at-k: completions drawn at a time, at least 1
  AdvantageLevel level = AdvantageLevel::kRollout;
  double turn_discount =
      1.0;  // level turn: how much of the next turn's return a turn is credited with, 0 to 1
};

// One per rollout; nullopt = unscored.
using Rewards = std::vector<std::optional<double>>;

// What the advantages of one group depend on.
struct RewardGroup {
  Rewards rewards;
  std::vector<double> lengths;  // completion tokens, one per reward; read by opo and reinforce-pp*
};

// The group's rewards: nullopt where a rollout is not scored or its reward is not finite.
Rewards GroupRewards(const Group& group);
RewardGroup RewardGroupOf(const Group& group);

// As many as there are rewards, group by group, in their order.
std::vector<std::vector<double>> ComputeAdvantages(const AdvantageOptions& options,
                                                   absl::Span<const RewardGroup> groups);
// One group alone. For the kinds that look at the whole step, this group is the step; every rollout
// counts as one token.
std::vector<double> ComputeAdvantages(AdvantageKind kind, const Rewards& rewards);

// A group whose rollouts were rewarded turn by turn.
struct TurnRewardGroup {
  std::vector<std::vector<double>>
      rewards;  // [rollout][turn]; no turns, or one that is not finite: unscored
  std::vector<std::vector<double>> lengths;  // completion tokens likewise; may be left out
};

// Turns of the same number are compared with each other: turn j of a rollout is worth
//   G_j = r_j + turn_discount G_{j+1},
// and its advantage is that of G_j in the group of all G_j of its prompt, by the formula `kind`. A rollout that ended before
// turn j has no vote there; a turn that only one rollout reached gets 0. For the kinds that look at the whole step, the step
// is all turns of all groups. As many as there are rewards: [group][rollout][turn], 0 for what is unscored.
// Worked example (grpo, discount 0): rewards {1, 0}, {0, 0}, {0.5, 3}: turn 0 {1, -1, 0}, turn 1 {-.577, -.577, 1.155}.
std::vector<std::vector<std::vector<double>>> ComputeTurnAdvantages(
    const AdvantageOptions& options, absl::Span<const TurnRewardGroup> groups);

}  // namespace rft
