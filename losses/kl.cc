#include "losses/kl.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/expm1.h>

#include "rft/core/kl_value.h"

namespace rft {

at::Tensor KlEstimate(KlEstimator estimator, const at::Tensor& logprobs_T, const at::Tensor& held_T,
                      const at::Tensor& ref_logprobs_T) {
  const at::Tensor d_T = ref_logprobs_T - logprobs_T;
  if (estimator != KlEstimator::kK1Plus && estimator != KlEstimator::kK3Plus)
    return KlValue(estimator, d_T);
  const at::Tensor held_d_T = ref_logprobs_T - held_T;
  return KlValue(estimator, held_d_T) +
         (KlValue(KlEstimator::kK2, d_T) - KlValue(KlEstimator::kK2, held_d_T));
}

}  // namespace rft
