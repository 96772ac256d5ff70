// The log of the importance ratio between the policy that learns and the policy before the step.
//
// Inputs: T tokens with inactive ones already zeroed (PackedRows::ZeroInactive), nats. Gradient
// only through logprobs_T. Both levels apply config.log_ratio_cap (both sides) and
// config.log_ratio_cap_max (above only); beyond a cap the gradient is 0, at the cap itself it
// passes.
#pragma once

#include <ATen/core/Tensor.h>

#include "losses/packed_rows.h"
#include "rft/core/loss_config.h"

namespace rft {

enum class RatioLevel {
  kToken,          // r_t = pi(y_t) / pi_old(y_t)                         PPO, 1707.06347 eq. 6
  kSequenceToken,  // s_i held constant, times pi(y_t) / sg(pi(y_t)),     GSPO, 2507.18071 eq. 14
                   // with s_i = exp of the mean log ratio of row i's active tokens
};

at::Tensor LogRatio(RatioLevel level, const at::Tensor& logprobs_T,
                    const at::Tensor& old_logprobs_T, const PackedRows& rows,
                    const LossConfig& config);

}  // namespace rft
