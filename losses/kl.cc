#include "losses/kl.h"

#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

namespace rft {

at::Tensor KlEstimate(KlEstimator estimator, const at::Tensor& logprobs_T,
                      const at::Tensor& ref_logprobs_T) {
  const at::Tensor d_T = ref_logprobs_T - logprobs_T;
  switch (estimator) {
    case KlEstimator::kK1:
      return -d_T;
    case KlEstimator::kK2:
      return 0.5 * d_T * d_T;
    case KlEstimator::kK3:
      return d_T.expm1() - d_T;  // expm1: exact where d is small and e^d - 1 would cancel
  }
  TORCH_CHECK(false, "unknown KL estimator ", static_cast<int>(estimator));
}

}  // namespace rft
