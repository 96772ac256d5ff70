// The log of the importance ratio between the policy that learns and its anchor: the policy before
// the step, or the sampler's (config.ratio_anchor).
//
//   kToken          r_t = pi(y_t) / anchor(y_t)                              PPO, 1707.06347 eq. 6
//   kSequence       s_i = exp(mean log ratio over row i's active tokens)     GSPO, 2507.18071 eq. 7
//   kSequenceToken  sg(s_i) pi(y_t) / sg(pi(y_t))                            GSPO-token, eq. 14
// Inputs: T tokens with inactive ones zeroed, nats, float64. Every level applies
// config.log_ratio_cap (both sides) and config.log_ratio_cap_max (above only); beyond a cap the
// gradient is 0, at the cap itself it passes.
#pragma once

#include <ATen/core/Tensor.h>

#include "losses/loss.h"
#include "losses/packed_rows.h"

namespace rft {

// The constant of a row ratio, one value per token: the mean of sg(lp) - anchor over the row's
// active tokens (all its tokens with row_mean_over_masked, which is why the raw input is needed).
// Undefined at token level.
at::Tensor RowShift(const LossInput& input, const LossInput& clean, const PackedRows& rows,
                    const LossConfig& config);

// Gradient through logprobs_T, which may also be sg(lp): then it is constant.
at::Tensor LogRatio(const at::Tensor& logprobs_T, const LossInput& clean,
                    const at::Tensor& row_shift_T, const PackedRows& rows,
                    const LossConfig& config);

}  // namespace rft
