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

#include <ATen/core/Tensor.h>

#include "rft/core/loss_config.h"

namespace rft {

struct ClippedSurrogate {
  at::Tensor loss_T;       // with gradient
  at::Tensor ratio_T;      // min(r, delta), constant
  at::Tensor clip_low_T;   // bool: r < 1 - clip_low and A < 0
  at::Tensor clip_high_T;  // bool: r > 1 + clip_high and A > 0
  at::Tensor clip_T;       // bool: the clipped branch is strictly larger
  at::Tensor outside_T;    // bool: r outside the bounds whatever A
  at::Tensor dual_T;       // bool: -c A was used; undefined without dual clip
};

ClippedSurrogate ClipSurrogate(const at::Tensor& log_ratio_T, const at::Tensor& advantages_T,
                               const LossConfig& config);

}  // namespace rft
