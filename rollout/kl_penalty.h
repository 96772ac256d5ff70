// A reference KL outside the loss: in the rewards before advantages, or in the advantages. Torch-free,
// pure. Both read the trainer's old log-probabilities where a datum has them, else the sampler's.
//
//   reward     r_i -= coef sum_t (lp - ref)_t over trained tokens, then advantages anew     (TRL RLOO)
//   advantage  A_t += coef (mean of (lp - ref) over the step's trained tokens - (lp - ref)_t)   (Tinker
//              cookbook): centred, so that the step as a whole is neither rewarded nor punished
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "rollout/advantage.h"
#include "rollout/datums.h"

namespace rft {

// REQUIRES: ref_logprobs and sampling_logprobs of every datum are set; the datums were made of
// `groups`. Rollouts without a datum keep their reward.
void AddKlToRewards(double coef, const AdvantageOptions& advantage, absl::Span<const Group> groups,
                    absl::Span<DatumBatch> batches);

// REQUIRES: as above.
void AddKlToAdvantages(double coef, absl::Span<DatumBatch> batches);

}  // namespace rft
