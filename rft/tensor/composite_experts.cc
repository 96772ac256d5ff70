// ExpertsAdd of composite.h.
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/dispatch.h"

namespace rft::ops::composite {
namespace {

// (token, expert) pairs, expert after expert.
struct Pairs {
  std::vector<int64_t> tokens, slots;  // slot: token * K + place among the token's experts
  std::vector<int64_t> counts;         // of each expert
};

Pairs GroupByExpert(const at::Tensor& experts_TK, int64_t num_experts) {
  const int64_t k = experts_TK.size(1);
  std::vector<std::vector<int64_t>> slots(num_experts);
  for (int64_t i = 0; i < experts_TK.numel(); ++i) {
    const int32_t expert = Data<int32_t>(experts_TK)[i];
    TORCH_CHECK(expert >= 0 && expert < num_experts, "experts: there is no expert ", expert);
    slots[expert].push_back(i);
  }
  Pairs pairs;
  for (const std::vector<int64_t>& own : slots) {
    pairs.counts.push_back(static_cast<int64_t>(own.size()));
    for (const int64_t slot : own) {
      pairs.slots.push_back(slot);
      pairs.tokens.push_back(slot / k);
    }
  }
  return pairs;
}

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
  const Pairs pairs = GroupByExpert(experts_TK, weights.num_experts());
  const auto on_device = [&](const std::vector<int64_t>& ids) {
    return at::tensor(ids, at::kLong).to(x.device());
  };
  const at::Tensor tokens_P = on_device(pairs.tokens);
  const std::vector<at::Tensor> inputs = SelectRows(x, tokens_P).split_with_sizes(pairs.counts, 0);
  std::vector<at::Tensor> outputs;
  int64_t first = 0;
  for (size_t e = 0; e < inputs.size(); first += pairs.counts[e++]) {
    if (pairs.counts[e] == 0) continue;
    LowRankDropout dropout;
    const ExpertLowRank* low_rank = adapters.empty() ? nullptr : adapters[0].experts;
    if (low_rank != nullptr && adapters[0].dropout != nullptr) {
      dropout = *adapters[0].dropout;
      dropout.keys_T = dropout.keys_T.index_select(
          0, at::tensor(pairs.tokens, at::kLong).narrow(0, first, pairs.counts[e]));
    }
    const at::Tensor gate_up =
        Adapted(inputs[e], weights.gate_up[e], low_rank ? low_rank->gate_up[e] : nullptr, dropout);
    outputs.push_back(
        Adapted(SwiGlu(gate_up), weights.down[e], low_rank ? low_rank->down[e] : nullptr, dropout));
  }
  const at::Tensor gates_P =
      weights_TK.to(x.device()).reshape({-1}).index_select(0, on_device(pairs.slots));
  return residual.index_add(0, tokens_P, at::cat(outputs, 0).to(at::kFloat) * gates_P.unsqueeze(1));
}

}  // namespace rft::ops::composite
