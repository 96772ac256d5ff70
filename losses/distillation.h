// Distillation: the divergence between a teacher and the student on the teacher's K most likely tokens of each position.
//
// Shapes: N positions, K tokens each; log-probabilities in nats. Out: float64 [N], gradient through the student only.
//   forward   sum_j p_j (log p_j - log q_j)   p teacher, q student: the student covers what the teacher says (1503.02531)
//   reverse   sum_j q_j (log q_j - log p_j)   the student says nothing that the teacher would not (2306.08543, eq. 2)
// With `tail`, all other tokens together are one outcome more: 1 - sum p against 1 - sum q. Then the result is the divergence
// of a coarser distribution: at least 0, at most the full one, equal to it for K = V.
// Errors: c10::Error on a shape mismatch. Checked against torch over the whole vocabulary in tests/python/test_distill.py.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/core/distillation_config.h"

namespace rft {

at::Tensor DistillationDivergence(const at::Tensor& student_NK, const at::Tensor& teacher_NK,
                                  const DistillationConfig& config);

}  // namespace rft
