// The clipped surrogate, per token, to be minimised:
//
//   L = max(-min(r, delta) A, -clip(r, 1 - clip_low, 1 + clip_high) A)
//   L = min(L, -c A)    for A < 0, with dual clip c
//
// Every branch but -r A is a constant, so a token either has the gradient of -r A or none. Which
// one is decided first, on constants, and only tokens with gradient enter exp: a ratio that
// overflows in an unused branch cannot make a NaN. Ties take the branch with gradient: at the clip
// bound itself, and wherever both branches are equal, it is -r A.
// Sources: 1707.06347 eq. 7 (clip), 2503.14476 eq. 10 (two bounds), 1912.09729 (dual clip),
// 2505.07291 (delta).
#pragma once

#include "losses/policy_loss.h"

namespace rft {

// Metrics: ratio_mean, ratio_min, ratio_max (after delta), clip_frac (the clipped branch is strictly
// larger), clip_frac_low and clip_frac_high (by the sign of A), clip_frac_region (outside the bounds
// whatever A), and with dual_clip dual_clip_frac.
SurrogateTerm ClipSurrogate(const SurrogateInput& input, MetricCollector* metrics);

// What gspo, gspo-token and luspo share: one ratio per row, its log capped at +10, narrow bounds (row
// ratios move little).
void RowRatioDefaults(RatioLevel level, LossConfig& config);

}  // namespace rft
