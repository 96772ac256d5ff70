// ExpertsAdd of composite.h.
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/experts_grouping.h"

namespace rft::ops::composite {
namespace {

at::Tensor Adapted(const at::Tensor& x, const Weight& weight, const LowRank* adapter,
                   const LowRankDropout& dropout) {
  const at::Tensor y = Linear(x, weight);
  return adapter == nullptr ? y : AddLowRank(y, x, *adapter, &dropout);
}

}  // namespace

at::Tensor ExpertsAdd(const at::Tensor& x, const at::Tensor& experts_TK,
                      const at::Tensor& weights_TK, const ExpertWeights& weights,
                      const at::Tensor& residual, const std::vector<ExpertAdapter>& adapters) {
  TORCH_CHECK(experts_TK.is_cpu() && experts_TK.is_contiguous() &&
                  experts_TK.scalar_type() == at::kInt && experts_TK.size(0) == x.size(0),
              "experts: expected int32 experts of ", x.size(0), " tokens on the CPU");
  TORCH_CHECK(adapters.size() <= 1, "experts: rows of several adapters are for the CPU");
  const Grouping pairs = GroupByExpert(experts_TK, weights.num_experts());
  const at::Tensor tokens_P = pairs.token_P.to(x.device(), at::kLong);
  std::vector<int64_t> counts;
  for (int64_t e = 0; e < weights.num_experts(); ++e) counts.push_back(pairs.count(e));
  const std::vector<at::Tensor> inputs = SelectRows(x, tokens_P).split_with_sizes(counts, 0);
  std::vector<at::Tensor> outputs;
  for (int64_t e = 0; e < weights.num_experts(); ++e) {
    if (counts[e] == 0) continue;
    LowRankDropout dropout;
    const ExpertLowRank* low_rank = adapters.empty() ? nullptr : adapters[0].experts;
    if (low_rank != nullptr && adapters[0].dropout != nullptr) {
      dropout = *adapters[0].dropout;
      dropout.keys_T =
          dropout.keys_T.index_select(0, pairs.token_P.narrow(0, pairs.begin(e), counts[e]));
    }
    const at::Tensor gate_up =
        Adapted(inputs[e], weights.gate_up[e], low_rank ? low_rank->gate_up[e] : nullptr, dropout);
    outputs.push_back(
        Adapted(SwiGlu(gate_up), weights.down[e], low_rank ? low_rank->down[e] : nullptr, dropout));
  }
  const at::Tensor gates_P =
      weights_TK.to(x.device()).reshape({-1}).index_select(0, pairs.slot_P.to(x.device()));
  return residual.index_add(0, tokens_P, at::cat(outputs, 0).to(at::kFloat) * gates_P.unsqueeze(1));
}

}  // namespace rft::ops::composite
