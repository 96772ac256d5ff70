// A reference KL outside the loss: in the rewards before advantages, or in the advantages. Torch-free,
// pure. Both read the trainer's old log-probabilities where a datum has them, else the sampler's.
//
//   reward     r_i -= kl_coef sum_t KL_t over trained tokens, then advantages anew      (TRL RLOO: k1)
//   advantage  A_t += kl_coef (mean of KL over the step's trained tokens - KL_t)   (Tinker cookbook: k1):
//              centred, so that the step as a whole is neither rewarded nor punished
// KL_t is the value of kl_estimator (rft/core/kl_value.h); of `loss`, these two knobs are read.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "rft/core/loss_config.h"
#include "rollout/advantage.h"
#include "rollout/datums.h"

namespace rft {

// REQUIRES: ref_logprobs and sampling_logprobs of every datum are set; the datums were made of
// `groups`. Rollouts without a datum keep their reward.
void AddKlToRewards(const LossConfig& loss, const AdvantageOptions& advantage,
                    absl::Span<const Group> groups, absl::Span<DatumBatch> batches);

// REQUIRES: as above.
void AddKlToAdvantages(const LossConfig& loss, absl::Span<DatumBatch> batches);

}  // namespace rft
