// Per-token estimators of KL(policy || reference) from tokens sampled from the policy, d = ref - lp
// in nats:
//   k1 = -d        gradient 1            unbiased, signed; no KL gradient in expectation
//   k2 = d^2 / 2   gradient -d           biased value, right gradient in expectation
//   k3 = e^d-d-1   gradient 1 - e^d      unbiased, never negative
// Gradient through logprobs_T only. Source: Schulman, "Approximating KL divergence" (2020);
// 2402.03300 eq. 4 (k3).
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/core/loss_config.h"

namespace rft {

at::Tensor KlEstimate(KlEstimator estimator, const at::Tensor& logprobs_T,
                      const at::Tensor& ref_logprobs_T);

}  // namespace rft
