// What grpo, dapo and gspo-token share; they differ in the level of the ratio and in their defaults
// only.
//
// Per token, in this order: clipped surrogate -> times the mismatch correction -> plus kl_coef *
// KL(policy || reference); then aggregated to a raw sum (losses/aggregate.h). The KL term is never
// multiplied by the correction. Metrics: docs/losses.md. Errors: c10::Error on a bad input or knob,
// before anything is computed.
#pragma once

#include "losses/loss.h"
#include "losses/ratio.h"

namespace rft {

LossOutput ClippedPolicyLoss(RatioLevel level, const LossInput& input, const LossConfig& config);

}  // namespace rft
