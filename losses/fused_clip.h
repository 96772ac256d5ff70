// The clipped surrogate with its correction, reference KL, aggregation and metrics in one pass over
// the tokens, value and gradient together: what policy_loss.cc computes out of twenty operators.
//
// CPU, float32 or float64, in the input's own precision: differences are compensated, sums over blocks
// are float64. The gradient of a token depends on its row alone and sums are added in a fixed order,
// so the result has the same bits for any number of threads.
// Equal to the unfused path to 1e-12, float32 to 1e-6 (tests/losses/fused_clip_test.cc).
#pragma once

#include "losses/loss.h"

namespace rft {

// False: some knob or input is set that only the general path has.
bool CanFuseClip(const LossInput& input, const LossConfig& config);

// REQUIRES: CanFuseClip, input and config checked.
LossOutput FusedClipLoss(const LossInput& input, const LossConfig& config);

}  // namespace rft
