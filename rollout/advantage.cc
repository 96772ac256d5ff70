#include "rollout/advantage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace rft {
namespace {

constexpr double kWhiteningEps = 1e-8;
constexpr std::array<const char*, 11> kNames = {
    "grpo",     "dr-grpo",   "rloo", "max-rl",       "opo",
    "pass-k",   "batch-std", "gpg",  "reinforce-pp", "reinforce-pp-baseline",
    "pass-at-k"};

bool IsScored(const std::optional<double>& reward) {
  return reward.has_value() && std::isfinite(*reward);
}

// The scored part of a group; advantages are computed in place of the rewards.
struct Scored {
  std::vector<double> rewards, lengths, advantages;
  double mean = 0.0;
  bool has_signal = false;  // at least two rewards, not all equal
};

Scored ScoredOf(const RewardGroup& group) {
  Scored s;
  for (size_t i = 0; i < group.rewards.size(); ++i) {
    if (!IsScored(group.rewards[i])) continue;
    s.rewards.push_back(*group.rewards[i]);
    s.lengths.push_back(i < group.lengths.size() ? group.lengths[i] : 1.0);
  }
  s.advantages.assign(s.rewards.size(), 0.0);
  const double n = static_cast<double>(s.rewards.size());
  for (double r : s.rewards) s.mean += r / n;
  // Equal rewards: a mean rounded away from them would be blown up by the tiny deviation it makes.
  const auto [min, max] = std::minmax_element(s.rewards.begin(), s.rewards.end());
  s.has_signal = s.rewards.size() >= 2 && *min != *max;
  return s;
}

// Sample deviation (n - 1) around the mean. REQUIRES: at least two.
double Deviation(const std::vector<double>& values, double mean) {
  double sum = 0.0;
  for (double v : values) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / (static_cast<double>(values.size()) - 1.0));
}

double StepDeviation(const std::vector<Scored>& groups) {
  std::vector<double> all;
  for (const Scored& s : groups) all.insert(all.end(), s.rewards.begin(), s.rewards.end());
  if (all.size() < 2) return 0.0;
  double mean = 0.0;
  for (double r : all) mean += r / static_cast<double>(all.size());
  return Deviation(all, mean);
}

// Rows over rows with a reward other than 0.
double GpgScale(const std::vector<Scored>& groups) {
  double rows = 0.0, nonzero = 0.0;
  for (const Scored& s : groups) {
    rows += static_cast<double>(s.rewards.size());
    nonzero += static_cast<double>(s.rewards.size()) -
               static_cast<double>(std::count(s.rewards.begin(), s.rewards.end(), 0.0));
  }
  return rows / std::max(nonzero, 1.0);
}

double LengthWeightedMean(const Scored& s) {
  double total = 0.0, length = 0.0;
  for (size_t i = 0; i < s.rewards.size(); ++i) {
    total += s.lengths[i] * s.rewards[i];
    length += s.lengths[i];
  }
  return length > 0.0 ? total / length : s.mean;
}

void BestAgainstSecond(double eps, Scored* s) {
  const auto best = std::max_element(s->rewards.begin(), s->rewards.end());
  double second = -std::numeric_limits<double>::infinity();
  for (auto it = s->rewards.begin(); it != s->rewards.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  s->advantages[static_cast<size_t>(best - s->rewards.begin())] =
      (*best - second) / (Deviation(s->rewards, s->mean) + eps);
}

// Mean of the best over all k-subsets of `ascending`, and of its square: value j is the best of C(j, k - 1) of them.
// REQUIRES: 1 <= k <= values.
struct BestOfSubsets {
  double mean = 0.0, mean_square = 0.0;
};
BestOfSubsets BestOf(const std::vector<double>& ascending, size_t k) {
  const double size = static_cast<double>(k);
  BestOfSubsets best;
  double share = size / static_cast<double>(ascending.size());
  for (size_t j = ascending.size(); j >= k; --j) {
    best.mean += share * ascending[j - 1];
    best.mean_square += share * ascending[j - 1] * ascending[j - 1];
    if (j > 1) share *= (static_cast<double>(j) - size) / (static_cast<double>(j) - 1.0);
  }
  return best;
}

// The reward of k completions is their best; a completion's is the mean over the k-subsets that it is in.
void BestOfK(int64_t k, double eps, Scored* s) {
  const size_t size =
      static_cast<size_t>(std::clamp<int64_t>(k, 1, static_cast<int64_t>(s->rewards.size())));
  std::vector<double> ascending = s->rewards;
  std::sort(ascending.begin(), ascending.end());
  const BestOfSubsets all = BestOf(ascending, size);
  const double deviation = std::sqrt(std::max(0.0, all.mean_square - all.mean * all.mean));
  if (size == s->rewards.size()) return;  // one subset: nothing to compare it with
  for (size_t i = 0; i < s->rewards.size(); ++i) {
    double mine = s->rewards[i];
    if (size > 1) {
      std::vector<double> others = ascending;
      others.erase(std::lower_bound(others.begin(), others.end(), mine));
      for (double& other : others) other = std::max(other, mine);
      mine = BestOf(others, size - 1).mean;
    }
    s->advantages[i] = (mine - all.mean) / (deviation + eps);
  }
}

void Centre(double baseline, double scale, Scored* s) {
  for (size_t i = 0; i < s->rewards.size(); ++i)
    s->advantages[i] = (s->rewards[i] - baseline) * scale;
}

// What the whole step contributes to a group's advantages.
struct StepValues {
  double deviation = 0.0, gpg_scale = 1.0;
};

// REQUIRES: the group has signal.
void Compute(const AdvantageOptions& options, const StepValues& step, Scored* s) {
  const double n = static_cast<double>(s->rewards.size());
  switch (options.kind) {
    case AdvantageKind::kGrpo:
      return Centre(s->mean, 1.0 / (Deviation(s->rewards, s->mean) + options.eps), s);
    case AdvantageKind::kDrGrpo:
    case AdvantageKind::kReinforcePpBaseline:
      return Centre(s->mean, 1.0, s);
    case AdvantageKind::kRloo:
      return Centre(s->mean, n / (n - 1.0), s);
    case AdvantageKind::kMaxRl:
      return Centre(s->mean, s->mean > 0.0 ? 1.0 / (s->mean + options.eps) : 0.0, s);
    case AdvantageKind::kOpo:
      return Centre(LengthWeightedMean(*s), 1.0, s);
    case AdvantageKind::kPassK:
      return BestAgainstSecond(options.eps, s);
    case AdvantageKind::kBatchStd:
      return Centre(s->mean, 1.0 / (step.deviation + options.eps), s);
    case AdvantageKind::kGpg:
      return Centre(s->mean, step.gpg_scale, s);
    case AdvantageKind::kReinforcePp:
      return Centre(0.0, 1.0, s);
    case AdvantageKind::kPassAtK:
      return BestOfK(options.k, options.eps, s);
  }
}

// Over tokens: a rollout counts once per token; variance with Bessel's correction.
void Whiten(std::vector<Scored>* groups) {
  double n = 0.0, mean = 0.0, variance = 0.0;
  const auto each = [&](auto&& f) {
    for (Scored& s : *groups)
      for (size_t i = 0; i < s.advantages.size(); ++i) f(s.advantages[i], s.lengths[i]);
  };
  each([&](double, double length) { n += length; });
  if (n < 2.0) {
    each([](double& a, double) { a = 0.0; });
    return;
  }
  each([&](double a, double length) { mean += a * length / n; });
  each([&](double a, double length) { variance += (a - mean) * (a - mean) * length / (n - 1.0); });
  const double scale = 1.0 / std::sqrt(variance + kWhiteningEps);
  each([&](double& a, double) { a = (a - mean) * scale; });
}

void WeightAndClip(const AdvantageOptions& options, Scored* s) {
  const double difficulty = 1.0 - std::clamp(s->mean, 0.0, 1.0);
  const double weight = 1.0 + options.difficulty_weight * difficulty;
  for (double& a : s->advantages) {
    if (options.difficulty_weight != 0.0) a *= weight;
    if (options.clip > 0.0) a = std::clamp(a, -options.clip, options.clip);
  }
}

}  // namespace

const char* AdvantageKindName(AdvantageKind kind) { return kNames[static_cast<size_t>(kind)]; }

absl::StatusOr<AdvantageKind> AdvantageKindFromName(std::string_view name) {
  std::string wanted(name);
  std::replace(wanted.begin(), wanted.end(), '_', '-');
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (wanted == kNames[i]) return static_cast<AdvantageKind>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown advantage '", std::string(name),
                                                 "'; known ones: ", absl::StrJoin(kNames, ", ")));
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

RewardGroup RewardGroupOf(const Group& group) {
  RewardGroup result{GroupRewards(group), {}};
  for (const Rollout& rollout : group.rollouts)
    result.lengths.push_back(static_cast<double>(rollout.NumCompletionTokens()));
  return result;
}

std::vector<std::vector<double>> ComputeAdvantages(const AdvantageOptions& options,
                                                   absl::Span<const RewardGroup> groups) {
  std::vector<Scored> scored;
  for (const RewardGroup& group : groups) scored.push_back(ScoredOf(group));
  const StepValues step{StepDeviation(scored), GpgScale(scored)};
  const bool global_only = options.kind == AdvantageKind::kReinforcePp;
  for (Scored& s : scored) {
    if (s.has_signal || global_only) Compute(options, step, &s);
  }
  if (global_only || options.kind == AdvantageKind::kReinforcePpBaseline) Whiten(&scored);
  std::vector<std::vector<double>> result;
  for (size_t g = 0; g < groups.size(); ++g) {
    WeightAndClip(options, &scored[g]);
    std::vector<double>& advantages = result.emplace_back(groups[g].rewards.size(), 0.0);
    auto next = scored[g].advantages.begin();
    for (size_t i = 0; i < advantages.size(); ++i) {
      if (IsScored(groups[g].rewards[i])) advantages[i] = *next++;
    }
  }
  return result;
}

std::vector<double> ComputeAdvantages(AdvantageKind kind, const Rewards& rewards) {
  const RewardGroup group{rewards, {}};
  return std::move(ComputeAdvantages({.kind = kind}, absl::MakeConstSpan(&group, 1)).front());
}

std::vector<std::vector<std::vector<double>>> ComputeTurnAdvantages(
    const AdvantageOptions& options, absl::Span<const TurnRewardGroup> groups) {
  const auto is_scored = [](const std::vector<double>& rewards) {
    return !rewards.empty() &&
           std::all_of(rewards.begin(), rewards.end(), [](double r) { return std::isfinite(r); });
  };
  // One reward group per turn number of each group, in that order.
  std::vector<RewardGroup> turns;
  for (const TurnRewardGroup& group : groups) {
    size_t most = 0;
    for (const std::vector<double>& rewards : group.rewards) most = std::max(most, rewards.size());
    const size_t first = turns.size();
    turns.resize(first + most);
    for (size_t i = 0; i < group.rewards.size(); ++i) {
      const std::vector<double>& rewards = group.rewards[i];
      double worth = 0.0;  // G of the turn after
      for (size_t j = most; j-- > 0;) {
        RewardGroup& turn = turns[first + j];
        turn.rewards.resize(group.rewards.size());
        turn.lengths.resize(group.rewards.size(), 1.0);
        if (j >= rewards.size() || !is_scored(rewards)) continue;
        worth = rewards[j] + options.turn_discount * worth;
        turn.rewards[i] = worth;
        if (i < group.lengths.size() && j < group.lengths[i].size())
          turn.lengths[i] = group.lengths[i][j];
      }
    }
  }
  const std::vector<std::vector<double>> advantages = ComputeAdvantages(options, turns);
  std::vector<std::vector<std::vector<double>>> result;
  size_t first = 0;
  for (const TurnRewardGroup& group : groups) {
    std::vector<std::vector<double>>& of_group = result.emplace_back();
    size_t most = 0;
    for (size_t i = 0; i < group.rewards.size(); ++i) {
      std::vector<double>& row = of_group.emplace_back();
      for (size_t j = 0; j < group.rewards[i].size(); ++j) row.push_back(advantages[first + j][i]);
      most = std::max(most, row.size());
    }
    first += most;
  }
  return result;
}

}  // namespace rft
