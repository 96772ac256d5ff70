#include "rollout/advantage.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace rft {
namespace {

constexpr double kStdEpsilon = 1e-6;
constexpr AdvantageKind kKinds[] = {AdvantageKind::kGrpo, AdvantageKind::kDrGrpo,
                                    AdvantageKind::kRloo};

bool IsScored(const std::optional<double>& reward) {
  return reward.has_value() && std::isfinite(*reward);
}

// The advantages of scored rewards alone. REQUIRES: at least two, not all equal.
std::vector<double> Centred(AdvantageKind kind, std::vector<double> rewards) {
  const double n = static_cast<double>(rewards.size());
  double mean = 0.0;
  for (double r : rewards) mean += r / n;
  double sum_squares = 0.0;
  for (double& r : rewards) {
    r -= mean;
    sum_squares += r * r;
  }
  double scale = 1.0;
  if (kind == AdvantageKind::kGrpo)
    scale = 1.0 / (std::sqrt(sum_squares / (n - 1.0)) + kStdEpsilon);
  if (kind == AdvantageKind::kRloo) scale = n / (n - 1.0);
  for (double& r : rewards) r *= scale;
  return rewards;
}

}  // namespace

const char* AdvantageKindName(AdvantageKind kind) {
  static constexpr const char* kNames[] = {"grpo", "dr_grpo", "rloo"};
  return kNames[static_cast<int>(kind)];
}

absl::StatusOr<AdvantageKind> AdvantageKindFromName(std::string_view name) {
  for (AdvantageKind kind : kKinds) {
    if (name == AdvantageKindName(kind)) return kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown advantage '", std::string(name), "'; known ones: grpo, dr_grpo, rloo"));
}

Rewards GroupRewards(const Group& group) {
  Rewards rewards;
  rewards.reserve(group.rollouts.size());
  for (const Rollout& rollout : group.rollouts) {
    const bool scored = rollout.scored && std::isfinite(rollout.reward);
    rewards.push_back(scored ? std::optional<double>(rollout.reward) : std::nullopt);
  }
  return rewards;
}

std::vector<double> ComputeAdvantages(AdvantageKind kind, const Rewards& rewards) {
  std::vector<double> advantages(rewards.size(), 0.0);
  std::vector<double> scored;
  for (const std::optional<double>& reward : rewards) {
    if (IsScored(reward)) scored.push_back(*reward);
  }
  if (scored.size() < 2) return advantages;
  // Equal rewards: a mean rounded away from them would be blown up by the tiny deviation it makes.
  const auto [min, max] = std::minmax_element(scored.begin(), scored.end());
  if (*min == *max) return advantages;
  const std::vector<double> centred = Centred(kind, std::move(scored));
  auto next = centred.begin();
  for (size_t i = 0; i < rewards.size(); ++i) {
    if (IsScored(rewards[i])) advantages[i] = *next++;
  }
  return advantages;
}

void AssignAdvantages(AdvantageKind kind, Group* group) {
  const std::vector<double> advantages = ComputeAdvantages(kind, GroupRewards(*group));
  for (size_t i = 0; i < advantages.size(); ++i) group->rollouts[i].advantage = advantages[i];
}

}  // namespace rft
