// The (token, expert) pairs of a mixture-of-experts layer, sorted by expert: what experts.cc, expert_adapters.cc and
// composite_experts.cc share. On the CPU whatever the device of the tokens.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "rft/tensor/dispatch.h"

namespace rft::ops {

// Pairs sorted by expert, then token.
struct Grouping {
  at::Tensor offsets_E1;  // int64: pairs of expert e are offsets[e] .. offsets[e + 1] - 1
  at::Tensor token_P;     // int32: the pair's token
  at::Tensor slot_P;      // int64: the pair's place in [T, K]
  int64_t pairs() const { return token_P.size(0); }
  int64_t num_experts() const { return offsets_E1.size(0) - 1; }
  int64_t begin(int64_t e) const { return Data<int64_t>(offsets_E1)[e]; }
  int64_t count(int64_t e) const { return begin(e + 1) - begin(e); }
};

// experts: int32 [T, K], contiguous, on the CPU. c10::Error for an id outside [0, num_experts).
Grouping GroupByExpert(const at::Tensor& experts_TK, int64_t num_experts);

// out = start (undefined: 0; or out itself), then += weight * row, of each token's pairs in the order of their slots. Float32;
// weights_P may be null for 1.
void AddToTokens(const at::Tensor& rows_PH, const Grouping& grouping, const float* weights_P,
                 const at::Tensor& start_TH, const at::Tensor& out_TH);

}  // namespace rft::ops
