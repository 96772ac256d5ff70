#include "rollout/kl_penalty.h"

#include <map>

namespace rft {
namespace {

// lp - ref of token t.
double Moved(const Datum& datum, size_t t) {
  const float logprob =
      datum.old_logprobs.empty() ? datum.sampling_logprobs[t] : datum.old_logprobs[t];
  return static_cast<double>(logprob) - static_cast<double>(datum.ref_logprobs[t]);
}

// f(datum, rollout, t) for every trained token.
template <typename F>
void ForTrainedTokens(absl::Span<DatumBatch> batches, const F& f) {
  for (DatumBatch& batch : batches) {
    for (size_t i = 0; i < batch.datums.size(); ++i) {
      for (size_t t = 0; t < batch.datums[i].ids.size(); ++t)
        if (batch.datums[i].weights[t] != 0.0f) f(batch.datums[i], batch.rollouts[i], t);
    }
  }
}

}  // namespace

void AddKlToRewards(double coef, const AdvantageOptions& advantage, absl::Span<const Group> groups,
                    absl::Span<DatumBatch> batches) {
  std::map<const Rollout*, double> moved;
  ForTrainedTokens(batches, [&](const Datum& datum, const Rollout* rollout, size_t t) {
    moved[rollout] += Moved(datum, t);
  });
  std::vector<RewardGroup> rewards;
  for (const Group& group : groups) {
    RewardGroup& one = rewards.emplace_back(RewardGroupOf(group));
    for (size_t i = 0; i < group.rollouts.size(); ++i) {
      const auto it = moved.find(&group.rollouts[i]);
      if (one.rewards[i] && it != moved.end()) *one.rewards[i] -= coef * it->second;
    }
  }
  const std::vector<std::vector<double>> advantages = ComputeAdvantages(advantage, rewards);
  std::map<const Rollout*, float> of;
  for (size_t g = 0; g < groups.size(); ++g)
    for (size_t i = 0; i < groups[g].rollouts.size(); ++i)
      of[&groups[g].rollouts[i]] = static_cast<float>(advantages[g][i]);
  ForTrainedTokens(batches, [&](Datum& datum, const Rollout* rollout, size_t t) {
    datum.advantages[t] = of.at(rollout);
  });
}

void AddKlToAdvantages(double coef, absl::Span<DatumBatch> batches) {
  double sum = 0.0, count = 0.0;
  ForTrainedTokens(batches, [&](const Datum& datum, const Rollout*, size_t t) {
    sum += Moved(datum, t);
    count += 1.0;
  });
  if (count == 0.0) return;
  const double mean = sum / count;
  ForTrainedTokens(batches, [&](Datum& datum, const Rollout*, size_t t) {
    datum.advantages[t] += static_cast<float>(coef * (mean - Moved(datum, t)));
  });
}

}  // namespace rft
