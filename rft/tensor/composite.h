// Operations of ops.h, attention.h, low_rank.h and experts.h as torch's own, for tensors that are not on the CPU: our kernels take
// host pointers. The functions of those headers but the last come here by themselves, after their checks; shapes, dtypes and where
// gradients go are as they say. What is promised of bits is not: rows may depend on what is computed with them, and sums on their order.
//
// Thread safety and lifetimes: as ops.h. Errors: c10::Error. Checked against our kernels in tests/tensor/composite_test.cc, on
// a device whose memory the host can't reach.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/attention.h"
#include "rft/tensor/experts.h"
#include "rft/tensor/low_rank.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/top_tokens.h"
#include "rft/tensor/weight.h"

namespace rft::ops::composite {

// Fills `packed` of a weight, [N, K] here, with its parts one below the other. `update` as in Weight::Repack.
void Stack(Weight& weight, const ValueUpdate& update);
// The copies of an adapter: a_packed is [parts * rank, K], b_packed [N_i, rank]. Allocated on the first call.
void Stack(LowRank& adapter);

at::Tensor Linear(const at::Tensor& x_TK, const Weight& weight);
at::Tensor LinearAdd(const at::Tensor& x_TK, const Weight& weight, const at::Tensor& residual_TN);
at::Tensor RmsNorm(const at::Tensor& x_TH, const at::Tensor& weight_H, Parameter* parameter,
                   double eps, at::ScalarType dtype);
at::Tensor RotateHeads(const at::Tensor& qkv_TX, const HeadLayout& layout, const HeadNorm& norm,
                       const at::Tensor& positions_T, const at::Tensor& cos_PD,
                       const at::Tensor& sin_PD);
// The backward computes it again: of float32 copies twice as wide as its input nothing is kept.
at::Tensor SwiGlu(const at::Tensor& gate_up_T2I);
// The chunks of logits are float32; the backward computes them again.
at::Tensor TokenLogprobs(const at::Tensor& hidden_NH, const Weight& head,
                         const at::Tensor& targets_N, double temperature, at::Tensor* entropy_N,
                         HeadAdapter adapter);
// Ties in any order.
TopTokens TopLogprobs(const at::Tensor& hidden_NH, const Weight& head, int64_t k,
                      double temperature, HeadAdapter adapter);
// One scaled_dot_product_attention per run. Torch chooses its kernel: a run without a prefix or a window needs no mask, so that a
// flash kernel can take it in bf16; the others have one, for the memory-efficient kernel, which, as in float32, wants a key head for
// every query head: keys and values are repeated for it. None of these makes a matrix of scores. Any scale and head width will
// do; values are as wide as keys (latent attention pads them). `visible`: of SelectedKeys; may be empty.
at::Tensor Attend(const at::Tensor& qkv_TX, const std::vector<PackedSequence>& sequences,
                  const HeadLayout& layout, const std::vector<at::Tensor>& visible, double scale);
// SelectedKeys::visible of each run. Of equal scores any.
std::vector<at::Tensor> SelectKeys(const at::Tensor& keys_TD, const Indexer::Queries& queries,
                                   const Indexer& indexer,
                                   const std::vector<PackedSequence>& sequences);
// Both return a new tensor. Dropout's mask is made on the CPU, the same as there.
at::Tensor AddLowRank(const at::Tensor& y_TN, const at::Tensor& x_TK, const LowRank& adapter,
                      const LowRankDropout* dropout);
at::Tensor AddLowRankEmbedding(const at::Tensor& x_TH, const at::Tensor& ids_T,
                               const EmbeddingLowRank& adapter);

// experts_TK is on the CPU, where routers choose; weights_TK may be. One adapter at most.
at::Tensor ExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                      const at::Tensor& weights_TK, const ExpertWeights& weights,
                      const at::Tensor& residual_TH, const std::vector<ExpertAdapter>& adapters);

}  // namespace rft::ops::composite
