#include "rft/tensor/experts_grouping.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/prefetch.h"

namespace rft::ops {

Grouping GroupByExpert(const at::Tensor& experts, int64_t num_experts) {
  const int64_t pairs = experts.numel(), k = experts.size(1);
  Grouping g{at::zeros({num_experts + 1}, at::kLong), at::empty({pairs}, at::kInt),
             at::empty({pairs}, at::kLong)};
  const int32_t* id = Data<int32_t>(experts);
  int64_t* offsets = Data<int64_t>(g.offsets_E1);
  for (int64_t i = 0; i < pairs; ++i) {
    TORCH_CHECK(id[i] >= 0 && id[i] < num_experts, "experts: id ", id[i], " of token ", i / k,
                " is not one of ", num_experts, " experts");
    ++offsets[id[i] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next(offsets, offsets + num_experts);
  auto* token = Data<int32_t>(g.token_P);
  auto* slot = Data<int64_t>(g.slot_P);
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t p = next[id[i]]++;
    token[p] = static_cast<int32_t>(i / k);
    slot[p] = i;
  }
  return g;
}

void AddToTokens(const at::Tensor& rows_PH, const Grouping& g, const float* weights_P,
                 const at::Tensor& start_TH, const at::Tensor& out_TH) {
  const int64_t pairs = g.pairs(), tokens = out_TH.size(0), h = out_TH.size(1);
  if (tokens == 0) return;
  const int64_t k = pairs / tokens;
  std::vector<int64_t> pair_of_slot(pairs);
  for (int64_t p = 0; p < pairs; ++p) pair_of_slot[Data<int64_t>(g.slot_P)[p]] = p;
  const auto add_scaled = GetKernels().add_scaled;
  const float *rows = Data<float>(rows_PH),
              *start = start_TH.defined() ? Data<float>(start_TH) : nullptr;
  float* out = Data<float>(out_TH);
  ParallelFor(tokens, GrainFor(2 * k * h), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = out + t * h;
      if (start == nullptr)
        std::fill_n(row, h, 0.0f);
      else if (start != out)
        std::copy_n(start + t * h, h, row);
      for (int64_t j = 0; j < k; ++j) {
        const int64_t p = pair_of_slot[t * k + j];
        if (t + 1 < tokens) PrefetchRow(rows + pair_of_slot[(t + 1) * k + j] * h, h);
        add_scaled(rows + p * h, weights_P ? weights_P[p] : 1.0f, h, row);
      }
    }
  });
}

}  // namespace rft::ops
