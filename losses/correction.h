// Weights for the train / inference mismatch, w = exp(old - sampling): constants on the policy
// term.
//
//   token                 w_t = exp(clamp(old_t - sampling_t, +-log_cap))
//   sequence, geometric   one per row: exp(mean over active tokens of the clamped differences)
//   sequence, product     one per row: exp(clamp(sum over active tokens, +-log_cap))
// then truncate to [floor or 0, cap], or mask (0 outside); then IcePop: 0 unless 1/icepop <= raw w
// <= icepop. Zeroed tokens keep their place in the denominators.
// Sources: 2510.18855 (IcePop), "Your efficient RL framework secretly brings you off-policy RL
// training" (2025, TIS).
#pragma once

#include <ATen/core/Tensor.h>

#include "losses/packed_rows.h"
#include "rft/core/loss_config.h"

namespace rft {

struct CorrectionWeights {
  at::Tensor weight_T;  // what multiplies the policy term
  at::Tensor raw_T;     // before truncation, masking and IcePop
};

// Inactive tokens of both inputs already zeroed (PackedRows::ZeroInactive). Returns constants.
CorrectionWeights ComputeCorrection(const ImportanceCorrection& correction,
                                    const at::Tensor& old_logprobs_T,
                                    const at::Tensor& sampling_logprobs_T, const PackedRows& rows);

}  // namespace rft
