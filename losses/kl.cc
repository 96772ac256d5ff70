#include "losses/kl.h"

#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

namespace rft {
namespace {

at::Tensor K2(const at::Tensor& d_T) { return 0.5 * d_T * d_T; }
// expm1: exact where d is small and e^d - 1 would cancel.
at::Tensor K3(const at::Tensor& d_T) { return d_T.expm1() - d_T; }

}  // namespace

at::Tensor KlEstimate(KlEstimator estimator, const at::Tensor& logprobs_T, const at::Tensor& held_T,
                      const at::Tensor& ref_logprobs_T) {
  const at::Tensor d_T = ref_logprobs_T - logprobs_T;
  const at::Tensor held_d_T = ref_logprobs_T - held_T;
  switch (estimator) {
    case KlEstimator::kK1:
      return -d_T;
    case KlEstimator::kK2:
      return K2(d_T);
    case KlEstimator::kK3:
      return K3(d_T);
    case KlEstimator::kAbs:
      return d_T.abs();
    case KlEstimator::kLowVar:
      return K3(d_T.clamp(-20.0, 20.0)).clamp(-10.0, 10.0);
    case KlEstimator::kK1Plus:
      return -held_d_T + (K2(d_T) - K2(held_d_T));
    case KlEstimator::kK3Plus:
      return K3(held_d_T) + (K2(d_T) - K2(held_d_T));
  }
  TORCH_CHECK(false, "unknown KL estimator ", static_cast<int>(estimator));
}

}  // namespace rft
