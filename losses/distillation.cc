#include "losses/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

namespace rft {
namespace {

constexpr double kLeast = 1e-12;  // of what is left for the tail

// One column more: the log-probability of everything else.
at::Tensor WithTail(const at::Tensor& logprobs_NK) {
  const at::Tensor rest_N1 = (1.0 - logprobs_NK.exp().sum(1, /*keepdim=*/true)).clamp_min(kLeast);
  return at::cat({logprobs_NK, rest_N1.log()}, 1);
}

}  // namespace

at::Tensor DistillationDivergence(const at::Tensor& student_NK, const at::Tensor& teacher_NK,
                                  const DistillationConfig& config) {
  TORCH_CHECK(student_NK.dim() == 2 && student_NK.sizes() == teacher_NK.sizes(),
              "distillation: student ", student_NK.sizes(), " and teacher ", teacher_NK.sizes(),
              " must both be [N, K]");
  at::Tensor q = student_NK.to(at::kDouble), p = teacher_NK.to(at::kDouble);
  if (config.tail) {
    q = WithTail(q);
    p = WithTail(p);
  }
  return config.reverse ? (q.exp() * (q - p)).sum(1) : (p.exp() * (p - q)).sum(1);
}

}  // namespace rft
