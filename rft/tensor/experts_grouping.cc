#include "rft/tensor/experts_grouping.h"

#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

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

}  // namespace rft::ops
