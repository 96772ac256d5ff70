// Rewards of one group to advantages. Torch-free, pure.
//
//   kGrpo     (r - mean) / (std + 1e-6), std the sample deviation (ddof 1)      2402.03300
//   kDrGrpo   r - mean                                                          2503.20783
//   kRloo     (r - mean) n / (n - 1)                                            2402.14740
//
// n, mean and std are over the scored rollouts only. An unscored one (no reward, or a reward that
// is not finite) gets 0 and has no vote: the others get bit for bit what the group without it would
// get. A group with one scored rollout, or with equal rewards, gets exact zeros, never NaN.
// Worked example: rewards {1, 0, -, 0}: mean 1/3, std 0.577, kGrpo {1.155, -0.577, 0, -0.577}.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/core/types.h"

namespace rft {

enum class AdvantageKind { kGrpo, kDrGrpo, kRloo };

// "grpo", "dr_grpo", "rloo"; kInvalidArgument lists them.
absl::StatusOr<AdvantageKind> AdvantageKindFromName(std::string_view name);
const char* AdvantageKindName(AdvantageKind kind);

// One per rollout; nullopt = unscored.
using Rewards = std::vector<std::optional<double>>;

// The group's rewards: nullopt where a rollout is not scored or its reward is not finite.
Rewards GroupRewards(const Group& group);

// As many as `rewards`, in their order.
std::vector<double> ComputeAdvantages(AdvantageKind kind, const Rewards& rewards);

// Sets Rollout::advantage throughout the group.
void AssignAdvantages(AdvantageKind kind, Group* group);

}  // namespace rft
