// Rewards of a step's groups to advantages. Torch-free, pure.
//
//   grpo                   (r - mean) / (std + eps)                                2402.03300
//   dr-grpo                r - mean                                                2503.20783
//   rloo                   (r - mean) n / (n - 1)                                  2402.14740
//   max-rl                 (r - mean) / (mean + eps): rare successes weigh most    2602.02710
//   opo                    r - sum(|y| r) / sum |y|: length-weighted baseline      2505.23585
//   pass-k                 best: (r_max - r_2nd) / (std + eps); the others 0       2503.19595
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
};

// "grpo", "dr-grpo", ... ("dr_grpo" too); kInvalidArgument lists them.
absl::StatusOr<AdvantageKind> AdvantageKindFromName(std::string_view name);
const char* AdvantageKindName(AdvantageKind kind);

struct AdvantageOptions {
  AdvantageKind kind = AdvantageKind::kGrpo;
  double eps = 1e-6;               // added to a deviation that is divided by
  double clip = 0.0;               // 0: off
  double difficulty_weight = 0.0;  // at least 0; expects rewards within [0, 1]
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

// Sets Rollout::advantage throughout the step.
void AssignAdvantages(const AdvantageOptions& options, absl::Span<Group> groups);

}  // namespace rft
