// Per-token estimators of KL(policy || reference) from tokens sampled from the policy, d = ref - lp
// in nats:
//   k1  = -d        gradient 1            unbiased, signed; no KL gradient in expectation
//   k2  = d^2 / 2   gradient -d           biased value, right gradient in expectation
//   k3  = e^d-d-1   gradient 1 - e^d      unbiased, never negative
//   abs = |d|
//   low-var         k3 with d clamped to +-20 and the result to +-10 (verl's low_var_kl)
//   k1+, k3+        value of k1, k3; gradient of k2 (straight-through)
// Gradient through logprobs_T only; held_T is sg(lp). Source: Schulman, "Approximating KL
// divergence" (2020); 2402.03300 eq. 4 (k3).
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/core/loss_config.h"

namespace rft {

at::Tensor KlEstimate(KlEstimator estimator, const at::Tensor& logprobs_T, const at::Tensor& held_T,
                      const at::Tensor& ref_logprobs_T);

}  // namespace rft
