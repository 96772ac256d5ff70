#include "rollout/rollout_advantages.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace rft {
namespace {

bool IsScored(const Rollout& rollout) { return rollout.scored && std::isfinite(rollout.reward); }

// f(weight, score) for every grade that counts.
template <typename F>
void ForScores(const Rollout& rollout, const F& f) {
  for (const NamedGrade& named : rollout.grades) {
    const Score* score = std::get_if<Score>(&named.grade);
    if (score != nullptr && named.weight != 0.0) f(named.weight, *score);
  }
}

std::vector<double> AsDoubles(const std::vector<int64_t>& values) {
  return {values.begin(), values.end()};
}

// One value per turn: [group][rollout][turn]. At level rollout all turns of a rollout have the same.
std::vector<std::vector<std::vector<double>>> OfTurns(const AdvantageOptions& options,
                                                      absl::Span<const Group> groups,
                                                      const TurnPenalty& penalty) {
  if (options.level == AdvantageLevel::kTurn) {
    std::vector<TurnRewardGroup> rewards;
    for (const Group& group : groups) {
      TurnRewardGroup& one = rewards.emplace_back();
      for (const Rollout& rollout : group.rollouts) {
        std::vector<double>& turns = one.rewards.emplace_back(TurnRewards(rollout));
        for (size_t j = 0; penalty && j < turns.size(); ++j) turns[j] -= penalty(rollout, j);
        one.lengths.push_back(AsDoubles(TurnLengths(rollout)));
      }
    }
    return ComputeTurnAdvantages(options, rewards);
  }
  std::vector<RewardGroup> rewards;
  for (const Group& group : groups) {
    RewardGroup& one = rewards.emplace_back(RewardGroupOf(group));
    for (size_t i = 0; penalty && i < group.rollouts.size(); ++i) {
      if (!one.rewards[i]) continue;
      const size_t turns = TurnLengths(group.rollouts[i]).size();
      for (size_t j = 0; j < turns; ++j) *one.rewards[i] -= penalty(group.rollouts[i], j);
    }
  }
  const std::vector<std::vector<double>> advantages = ComputeAdvantages(options, rewards);
  std::vector<std::vector<std::vector<double>>> result;
  for (size_t g = 0; g < groups.size(); ++g) {
    std::vector<std::vector<double>>& of_group = result.emplace_back();
    for (size_t i = 0; i < advantages[g].size(); ++i) of_group.push_back({advantages[g][i]});
  }
  return result;
}

// `of_turns` has one value per turn, or one in all.
RolloutAdvantages OfTokens(const AdvantageOptions& options, const Rollout& rollout,
                           const std::vector<double>& of_turns) {
  RolloutAdvantages result;
  if (!IsScored(rollout) || of_turns.empty()) return result;
  const std::vector<double> given = GivenTokenAdvantages(rollout);
  const bool equal = std::all_of(of_turns.begin(), of_turns.end(),
                                 [&](double a) { return a == of_turns.front(); });
  result.mean = of_turns.front();
  if (equal && given.empty()) return result;
  const std::vector<int64_t> lengths = TurnLengths(rollout);
  double sum = 0.0;
  for (size_t j = 0; j < lengths.size(); ++j) {
    for (int64_t t = 0; t < lengths[j]; ++t) {
      double a = of_turns[of_turns.size() == 1 ? 0 : j];
      if (!given.empty()) a += given[result.tokens.size()];
      if (options.clip > 0.0) a = std::clamp(a, -options.clip, options.clip);
      sum += a;
      result.tokens.push_back(static_cast<float>(a));
    }
  }
  result.mean = result.tokens.empty() ? 0.0 : sum / static_cast<double>(result.tokens.size());
  return result;
}

}  // namespace

std::vector<int64_t> TurnLengths(const Rollout& rollout) {
  std::vector<int64_t> lengths;
  for (const Segment& segment : rollout.segments) {
    if (segment.kind == SegmentKind::kModel)
      lengths.push_back(static_cast<int64_t>(segment.ids.size()));
  }
  return lengths;
}

std::vector<double> TurnRewards(const Rollout& rollout) {
  std::vector<double> turns(TurnLengths(rollout).size(), 0.0);
  if (!IsScored(rollout) || turns.empty()) return {};
  double earned = 0.0;
  ForScores(rollout, [&](double weight, const Score& score) {
    for (size_t j = 0; j < score.turn_scores.size() && j < turns.size(); ++j) {
      turns[j] += weight * score.turn_scores[j];
      earned += weight * score.turn_scores[j];
    }
  });
  turns.back() += rollout.reward - earned;
  return turns;
}

std::vector<double> GivenTokenAdvantages(const Rollout& rollout) {
  std::vector<double> given;
  if (!IsScored(rollout)) return given;
  ForScores(rollout, [&](double weight, const Score& score) {
    if (score.token_advantages.empty()) return;
    given.resize(static_cast<size_t>(rollout.NumCompletionTokens()), 0.0);
    for (size_t t = 0; t < score.token_advantages.size() && t < given.size(); ++t)
      given[t] += weight * score.token_advantages[t];
  });
  return given;
}

bool PartsDiffer(const Group& group, AdvantageLevel level, double tolerance) {
  std::vector<std::pair<double, double>> ranges;  // of each turn number
  for (const Rollout& rollout : group.rollouts) {
    const std::vector<double> given = GivenTokenAdvantages(rollout);
    if (std::any_of(given.begin(), given.end(), [](double a) { return a != 0.0; })) return true;
    if (level != AdvantageLevel::kTurn) continue;
    const std::vector<double> turns = TurnRewards(rollout);
    for (size_t j = 0; j < turns.size(); ++j) {
      if (j == ranges.size()) ranges.emplace_back(turns[j], turns[j]);
      ranges[j].first = std::min(ranges[j].first, turns[j]);
      ranges[j].second = std::max(ranges[j].second, turns[j]);
    }
  }
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& range) { return range.second - range.first > tolerance; });
}

std::vector<std::vector<RolloutAdvantages>> ComputeRolloutAdvantages(
    const AdvantageOptions& options, absl::Span<const Group> groups, const TurnPenalty& penalty) {
  const std::vector<std::vector<std::vector<double>>> of_turns = OfTurns(options, groups, penalty);
  std::vector<std::vector<RolloutAdvantages>> result;
  for (size_t g = 0; g < groups.size(); ++g) {
    std::vector<RolloutAdvantages>& of_group = result.emplace_back();
    for (size_t i = 0; i < groups[g].rollouts.size(); ++i)
      of_group.push_back(OfTokens(options, groups[g].rollouts[i], of_turns[g][i]));
  }
  return result;
}

void AssignAdvantages(const AdvantageOptions& options, absl::Span<Group> groups) {
  std::vector<std::vector<RolloutAdvantages>> advantages =
      ComputeRolloutAdvantages(options, groups);
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t i = 0; i < groups[g].rollouts.size(); ++i) {
      groups[g].rollouts[i].advantage = advantages[g][i].mean;
      groups[g].rollouts[i].token_advantages = std::move(advantages[g][i].tokens);
    }
  }
}

std::vector<float> SpreadOverTokens(const Rollout& rollout, double mean,
                                    const std::vector<float>& tokens) {
  std::vector<float> spread;
  size_t next = 0;
  for (const Segment& segment : rollout.segments) {
    for (size_t t = 0; t < segment.ids.size(); ++t) {
      const bool own = segment.kind == SegmentKind::kModel && next < tokens.size();
      spread.push_back(own ? tokens[next++] : static_cast<float>(mean));
    }
  }
  return spread;
}

}  // namespace rft
