#include "rollout/step_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rft {
namespace {

struct Mean {
  double sum = 0.0;
  int64_t n = 0;
  void Add(double x) {
    sum += x;
    ++n;
  }
  double value() const {
    return n > 0 ? sum / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
  }
};

void AddGraderMetrics(absl::Span<const Rollout* const> rollouts, Metrics* metrics) {
  std::map<std::string, Mean> means;
  for (const Rollout* rollout : rollouts) {
    for (const NamedGrade& named : rollout->grades) {
      const std::string name = "grader/" + named.grader;
      if (const Score* score = std::get_if<Score>(&named.grade)) {
        means[name].Add(score->value);
        for (const auto& [sub, value] : score->sub_scores) means[name + "/" + sub].Add(value);
      } else {
        (*metrics)[name + "/" + GradeKind(named.grade)] += 1.0;
      }
    }
  }
  for (const auto& [name, mean] : means) (*metrics)[name] = mean.value();
}

double SampleDeviation(const std::vector<double>& values, double mean) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  if (values.size() == 1) return 0.0;
  double sum_squares = 0.0;
  for (double v : values) sum_squares += (v - mean) * (v - mean);
  return std::sqrt(sum_squares / static_cast<double>(values.size() - 1));
}

}  // namespace

Metrics RolloutMetrics(absl::Span<const Rollout* const> rollouts) {
  Metrics metrics;
  Mean reward, length, truncated, unscored;
  std::vector<double> rewards;
  int64_t longest = 0;
  for (const Rollout* rollout : rollouts) {
    const int64_t num_tokens = rollout->NumCompletionTokens();
    longest = std::max(longest, num_tokens);
    length.Add(static_cast<double>(num_tokens));
    truncated.Add(rollout->finish_reason == FinishReason::kLength ? 1.0 : 0.0);
    unscored.Add(rollout->scored ? 0.0 : 1.0);
    if (!rollout->scored) continue;
    reward.Add(rollout->reward);
    rewards.push_back(rollout->reward);
  }
  metrics["reward_mean"] = reward.value();
  metrics["reward_std"] = SampleDeviation(rewards, reward.value());
  metrics["completion_length_mean"] = length.value();
  metrics["completion_length_max"] = static_cast<double>(longest);
  metrics["truncated_fraction"] = truncated.value();
  metrics["unscored_fraction"] = unscored.value();
  AddGraderMetrics(rollouts, &metrics);
  return metrics;
}

std::vector<const Rollout*> AllRollouts(const StepBatch& batch) {
  std::vector<const Group*> groups;
  for (const Group& group : batch.groups) groups.push_back(&group);
  for (const DroppedGroup& dropped : batch.dropped) groups.push_back(&dropped.group);
  std::sort(groups.begin(), groups.end(),
            [](const Group* a, const Group* b) { return a->id < b->id; });
  std::vector<const Rollout*> rollouts;
  for (const Group* group : groups) {
    for (const Rollout& rollout : group->rollouts) rollouts.push_back(&rollout);
  }
  return rollouts;
}

int64_t TokensSampled(const StepBatch& batch) {
  int64_t n = 0;
  for (const Rollout* rollout : AllRollouts(batch)) n += rollout->NumCompletionTokens();
  return n;
}

Metrics StepMetrics(const StepBatch& batch) {
  Metrics metrics = RolloutMetrics(AllRollouts(batch));
  Mean kept;
  for (const Group& group : batch.groups) {
    for (const Rollout& rollout : group.rollouts) {
      if (rollout.scored) kept.Add(rollout.reward);
    }
  }
  metrics["reward_mean_kept"] = kept.value();
  metrics["num_groups"] = static_cast<double>(batch.groups.size());
  metrics["num_filtered"] = static_cast<double>(batch.dropped.size());
  metrics["tokens_sampled"] = static_cast<double>(TokensSampled(batch));
  for (const auto& [reason, count] : batch.DropReasons())
    metrics["filtered/" + reason] = static_cast<double>(count);
  return metrics;
}

}  // namespace rft
