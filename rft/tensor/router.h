// The router of a mixture-of-experts layer: from logits to experts, and from logits and experts to gate weights. Two
// functions, so that a replayed choice takes the same path as a fresh one: the experts are an input of the weights, and
// the weights always come from the current logits, with gradient.
//
// Shapes: T tokens, E experts, K = top_k. Rows are independent of each other, bit for bit.
// Errors: c10::Error on a shape or dtype mismatch.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/tensor/router_config.h"

namespace rft::ops {

// The router's own choice: int32 [T, K], ascending in each row (ties: the lower id). logits_TE float32; bias_E float32,
// undefined where the config has none. No gradient.
at::Tensor ChooseExperts(const at::Tensor& logits_TE, const at::Tensor& bias_E,
                         const RouterConfig& config);

// Gate weight of each (token, chosen expert): float32 [T, K], with the gradient with respect to logits_TE.
at::Tensor GateWeights(const at::Tensor& logits_TE, const at::Tensor& experts_TK,
                       const RouterConfig& config);

}  // namespace rft::ops
