#include "rollout/kl_penalty.h"

#include <map>
#include <vector>

#include "rft/core/kl_value.h"
#include "rollout/rollout_advantages.h"

namespace rft {
namespace {

// KL(policy || reference) of token t.
double TokenKl(KlEstimator estimator, const Datum& datum, size_t t) {
  const float logprob =
      datum.old_logprobs.empty() ? datum.sampling_logprobs[t] : datum.old_logprobs[t];
  return KlValue(estimator,
                 static_cast<double>(datum.ref_logprobs[t]) - static_cast<double>(logprob));
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

// The turn that token t of the rollout was written in.
size_t TurnOfToken(const Rollout& rollout, size_t t) {
  size_t turn = 0, begin = 0;
  bool any = false;
  for (const Segment& segment : rollout.segments) {
    if (segment.kind == SegmentKind::kModel) {
      if (any) ++turn;
      any = true;
    }
    begin += segment.ids.size();
    if (t < begin) break;
  }
  return turn;
}

}  // namespace

void AddKlToRewards(const LossConfig& loss, const AdvantageOptions& advantage,
                    absl::Span<const Group> groups, absl::Span<DatumBatch> batches) {
  // [turn]; tokens outside of the model's segments belong to the turn before them
  std::map<const Rollout*, std::vector<double>> kl;
  ForTrainedTokens(batches, [&](const Datum& datum, const Rollout* rollout, size_t t) {
    std::vector<double>& turns = kl[rollout];
    turns.resize(TurnLengths(*rollout).size(), 0.0);
    if (!turns.empty()) turns[TurnOfToken(*rollout, t)] += TokenKl(loss.kl_estimator, datum, t);
  });
  const auto penalty = [&](const Rollout& rollout, size_t turn) {
    const auto it = kl.find(&rollout);
    return it == kl.end() ? 0.0 : loss.kl_coef * it->second[turn];
  };
  const auto advantages = ComputeRolloutAdvantages(advantage, groups, penalty);
  std::map<const Rollout*, std::vector<float>> of;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t i = 0; i < groups[g].rollouts.size(); ++i) {
      const Rollout& rollout = groups[g].rollouts[i];
      of[&rollout] = SpreadOverTokens(rollout, advantages[g][i].mean, advantages[g][i].tokens);
    }
  }
  ForTrainedTokens(batches, [&](Datum& datum, const Rollout* rollout, size_t t) {
    datum.advantages[t] = of.at(rollout)[t];
  });
}

void AddKlToAdvantages(const LossConfig& loss, absl::Span<DatumBatch> batches) {
  double sum = 0.0, count = 0.0;
  ForTrainedTokens(batches, [&](const Datum& datum, const Rollout*, size_t t) {
    sum += TokenKl(loss.kl_estimator, datum, t);
    count += 1.0;
  });
  if (count == 0.0) return;
  const double mean = sum / count;
  ForTrainedTokens(batches, [&](Datum& datum, const Rollout*, size_t t) {
    const double kl = TokenKl(loss.kl_estimator, datum, t);
    datum.advantages[t] += static_cast<float>(loss.kl_coef * (mean - kl));
  });
}

}  // namespace rft
