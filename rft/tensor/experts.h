// The experts of a mixture-of-experts layer: gated feed-forward networks of which each token passes through a few.
// Tokens are grouped by expert (a counting sort), and each projection is one grouped product over prepacked experts.
//
// Shapes: T tokens, E experts, K experts per token, P = T K (token, expert) pairs, H hidden, I expert width.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/low_rank.h"
#include "rft/tensor/weight.h"

namespace rft {

// E experts: gate_up[e] is [2 I, H] (gate rows first), down[e] is [H, I].
struct ExpertWeights {
  std::vector<Weight> gate_up, down;
  int64_t num_experts() const { return static_cast<int64_t>(gate_up.size()); }
  // Packs (again) from the masters, experts in parallel. The first time they have to be up to date.
  void Pack(const std::vector<std::vector<Parameter*>>& gate_up_parts,
            const std::vector<Parameter*>& down_parts, at::ScalarType dtype,
            const ValueUpdate& update = {});
};

// Low-rank adapters of a layer's experts, by expert; null: this one has none.
struct ExpertLowRank {
  std::vector<const LowRank*> gate_up, down;  // E
};

// Tokens [begin, begin + count) (count -1: to the end) use these adapters. Tokens that no adapter covers have the bits they
// would have without any. All pointers must outlive the backward.
struct ExpertAdapter {
  int64_t begin = 0, count = -1;
  const ExpertLowRank* experts = nullptr;
  const LowRankDropout* dropout = nullptr;  // keyed by token; null outside of training
};

namespace ops {

// residual_TH (float32) + sum over j of weights_TK[t, j] * down(silu(gate(x)) * up(x)) of expert experts_TK[t, j].
// x_TH: C; weights_TK: float32, with gradient; experts_TK: int32, ascending in each row. A token's experts are added in
// ascending order: rows are batch-invariant bit for bit. In inference the residual is updated in place and returned.
// Errors: c10::Error on a shape, dtype or expert id out of range.
at::Tensor ExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                      const at::Tensor& weights_TK, const ExpertWeights& weights,
                      const at::Tensor& residual_TH,
                      const std::vector<ExpertAdapter>& adapters = {});

}  // namespace ops
}  // namespace rft
