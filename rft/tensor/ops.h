// The differentiable operations that models are written in. Each runs our batch-invariant kernels; under no_grad or
// inference mode it is a plain function call, otherwise an autograd node. Tensors that are not on the CPU: torch's own operations
// (composite.h), without the promises about bits.
//
// Shapes: T tokens packed one after another (ragged, no padding), H hidden, K inputs, N outputs, D head_dim.
// dtypes: activations are the compute dtype C (float32 or bfloat16); the residual stream is float32.
// Gradients: activations through autograd; parameters by adding to Parameter::grad (float32), so that a step's gradient is
// accumulated in place over micro-batches. Deterministic: for a fixed order of calls the bits don't depend on threads.
// Errors: c10::Error on a shape or dtype mismatch.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/tensor/head_layout.h"
#include "rft/tensor/weight.h"

namespace rft::ops {

// Rows `ids_T` (int64) of the table [V, H] of dtype C, as float32 [T, H]. The gradient goes to `parameter`.
at::Tensor Embedding(const at::Tensor& ids_T, const at::Tensor& table_VH, Parameter* parameter);

// Rows `sources_N` (int64, may repeat) of x_TH (C) -> [N, H]. The gradient of a repeated row is summed in float32, in order.
at::Tensor SelectRows(const at::Tensor& x_TH, const at::Tensor& sources_N);

// x_TK (C) times W^T -> [T, N] (C).
at::Tensor Linear(const at::Tensor& x_TK, const Weight& weight);
// residual_TN (float32) + x_TK (C) times W^T -> float32. In inference the residual is updated in place and returned.
at::Tensor LinearAdd(const at::Tensor& x_TK, const Weight& weight, const at::Tensor& residual_TN);

// x (C) as float32; the gradient is rounded to C.
at::Tensor AsFloat(const at::Tensor& x);

// RMSNorm (Zhang & Sennrich 2019, eq. 4) of the residual stream: float32 [T, H] -> C. `weight_H` is this version's float32
// copy; the gradient goes to `parameter`. `residual_TH`, if not null, receives x_TH: a residual connection that starts from
// there has its gradient added in the backward's one pass over the rows.
at::Tensor RmsNorm(const at::Tensor& x_TH, const at::Tensor& weight_H, Parameter* parameter,
                   double eps, at::ScalarType dtype, at::Tensor* residual_TH = nullptr);

// Linear(RmsNorm(x)), bit for bit; the normed rows aren't kept for the backward, which computes them again.
at::Tensor NormLinear(const at::Tensor& x_TH, const at::Tensor& norm_H, Parameter* parameter,
                      double eps, const Weight& weight, at::Tensor* residual_TH = nullptr);

// Optional RMSNorm of q and k, over vectors as wide as the weights: per head (Qwen3) or the whole width (OLMoE); then rotary embedding of q and k (RoFormer, 2104.09864, half-split), with
// cos/sin tables [P, R / 2] float32 and positions_T int64; the first R <= D dims of a head rotate. In inference in place.
struct HeadNorm {
  at::Tensor q_weight_D, k_weight_D;  // [D] or [heads * D]; undefined: no norm
  Parameter* q_parameter = nullptr;
  Parameter* k_parameter = nullptr;
  double eps = 1e-6;
};
at::Tensor RotateHeads(const at::Tensor& qkv_TX, const HeadLayout& layout, const HeadNorm& norm,
                       const at::Tensor& positions_T, const at::Tensor& cos_PD,
                       const at::Tensor& sin_PD);

// silu(gate) * up for gate_up = [gate | up], [T, 2 I] -> [T, I].
at::Tensor SwiGlu(const at::Tensor& gate_up_T2I);
// LinearAdd(SwiGlu(gate_up), weight, residual), bit for bit; the activation isn't kept for the backward, which computes it again.
at::Tensor SwiGluLinearAdd(const at::Tensor& gate_up_T2I, const Weight& weight,
                           const at::Tensor& residual_TN);

// Log-probability in nats of each target under softmax(hidden W^T / temperature), float32 [N], without ever holding [N, V]:
// the vocabulary projection runs in row chunks, forward and (recomputed) backward. entropy_N, if not null, receives the
// entropy in nats; it has a gradient, which costs nothing unless it is used.
// targets_N may be [N, K]: K tokens of each position, float32 [N, K].
at::Tensor TokenLogprobs(const at::Tensor& hidden_NH, const Weight& head,
                         const at::Tensor& targets_N, double temperature,
                         at::Tensor* entropy_N = nullptr, HeadAdapter adapter = {});

// Chunk of rows that TokenLogprobs projects at a time for a vocabulary of this size.
int64_t LogitsChunkRows(int64_t vocab_size);

}  // namespace rft::ops
