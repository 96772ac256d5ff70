// What a forward computes with the adapters of its version (rft/models/lora.h).
#include <algorithm>

#include "rft/models/lora.h"
#include "rft/tensor/composite.h"
#include "rft/tensor/ops.h"

namespace rft {

const ModelWeights* BaseOf(const ModelWeights& weights) {
  return weights.base ? weights.base.get() : &weights;
}

std::shared_ptr<const ModelWeights> MixAdapters(absl::Span<const AdapterRows> rows) {
  TORCH_CHECK(!rows.empty(), "adapters: an empty batch");
  const ModelWeights* base = BaseOf(*rows[0].weights);
  auto mixed = std::make_shared<ModelWeights>(*base);
  mixed->base = rows[0].weights->base ? rows[0].weights->base : rows[0].weights;
  for (const AdapterRows& r : rows) {
    TORCH_CHECK(BaseOf(*r.weights) == base, "adapters: made over different versions of the base");
    for (const ModelWeights::Lora& lora : r.weights->lora)
      mixed->lora.push_back({r.begin, r.count, lora.weights, nullptr, nullptr});
  }
  return mixed;
}

namespace {

void AddAdapters(at::Tensor& y, const at::Tensor& x, const Weight& weight,
                 const ModelWeights& weights) {
  for (const ModelWeights::Lora& lora : weights.lora) {
    const auto it = lora.weights->by_weight.find(weight.parts[0]);
    if (it == lora.weights->by_weight.end()) continue;
    const int64_t count = lora.count < 0 ? x.size(0) - lora.begin : lora.count;
    y = ops::AddLowRank(y, x, it->second, lora.begin, count, lora.dropout.get());
  }
}

bool IsAdapted(const Weight& weight, const ModelWeights& weights) {
  return std::any_of(weights.lora.begin(), weights.lora.end(), [&](const ModelWeights::Lora& l) {
    return l.weights->by_weight.contains(weight.parts[0]);
  });
}

// The head's adapter of one entry; null if it has none.
const LowRank* OnHead(const ModelWeights::Lora& lora, const ModelWeights& weights) {
  const auto it = lora.weights->by_weight.find(weights.head.parts[0]);
  return it == lora.weights->by_weight.end() ? nullptr : &it->second;
}

}  // namespace

HeadAdapter AdapterOfHead(const ModelWeights& weights) {
  if (weights.lora.empty()) return {};
  TORCH_CHECK(weights.lora.size() == 1, "adapters: one was expected");
  return {OnHead(weights.lora[0], weights), weights.lora[0].head_dropout.get()};
}

void AddHeadAdapters(const at::Tensor& logits_NV, const at::Tensor& hidden_NH,
                     absl::Span<const int64_t> rows_N, const ModelWeights& weights) {
  for (const ModelWeights::Lora& lora : weights.lora) {
    const LowRank* adapter = OnHead(lora, weights);
    if (adapter == nullptr) continue;
    const auto first = std::lower_bound(rows_N.begin(), rows_N.end(), lora.begin);
    const auto last = lora.count < 0
                          ? rows_N.end()
                          : std::lower_bound(first, rows_N.end(), lora.begin + lora.count);
    if (first == last) continue;
    ops::LowRankForward(logits_NV, hidden_NH, {adapter, first - rows_N.begin(), last - first},
                        nullptr);
  }
}

bool AdaptsAllRowsAlike(const ModelWeights& weights) {
  return std::all_of(weights.lora.begin(), weights.lora.end(), [](const ModelWeights::Lora& l) {
    return l.begin == 0 && l.count < 0 && !l.dropout;
  });
}

at::Tensor LoraEmbedding(const at::Tensor& ids_T, Parameter* table, const ModelWeights& weights) {
  at::Tensor x = ops::Embedding(ids_T, weights.embedding_VH, table);
  for (const ModelWeights::Lora& lora : weights.lora) {
    if (!lora.weights->embedding) continue;
    const int64_t count = lora.count < 0 ? x.size(0) - lora.begin : lora.count;
    x = ops::AddLowRankEmbedding(x, ids_T, *lora.weights->embedding, lora.begin, count);
  }
  return x;
}

at::Tensor LoraLinear(const at::Tensor& x_TK, const Weight& weight, const ModelWeights& weights) {
  at::Tensor y = ops::Linear(x_TK, weight);
  AddAdapters(y, x_TK, weight, weights);
  return y;
}

at::Tensor LoraLinearAdd(const at::Tensor& x_TK, const Weight& weight,
                         const at::Tensor& residual_TN, const ModelWeights& weights) {
  at::Tensor y = ops::LinearAdd(x_TK, weight, residual_TN);
  AddAdapters(y, x_TK, weight, weights);
  return y;
}

at::Tensor LoraNormLinear(const at::Tensor& x_TH, const at::Tensor& norm_H, Parameter* parameter,
                          double eps, const Weight& weight, const ModelWeights& weights,
                          at::Tensor* residual_TH) {
  if (!IsAdapted(weight, weights))
    return ops::NormLinear(x_TH, norm_H, parameter, eps, weight, residual_TH);
  return LoraLinear(ops::RmsNorm(x_TH, norm_H, parameter, eps, weight.compute_dtype(), residual_TH),
                    weight, weights);
}

at::Tensor LoraSwiGluLinearAdd(const at::Tensor& gate_up_T2I, const Weight& weight,
                               const at::Tensor& residual_TN, const ModelWeights& weights) {
  if (!IsAdapted(weight, weights)) return ops::SwiGluLinearAdd(gate_up_T2I, weight, residual_TN);
  return LoraLinearAdd(ops::SwiGlu(gate_up_T2I), weight, residual_TN, weights);
}

at::Tensor LoraExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK, const ExpertWeights& experts,
                          const at::Tensor& residual_TH, const ModelWeights& weights) {
  std::vector<ExpertAdapter> adapters;
  for (const ModelWeights::Lora& lora : weights.lora) {
    const auto it = lora.weights->by_experts.find(experts.gate_up[0].parts[0]);
    if (it == lora.weights->by_experts.end()) continue;
    adapters.push_back({lora.begin, lora.count, &it->second, lora.dropout.get()});
  }
  if (!x_TH.is_cpu())
    return ops::composite::ExpertsAdd(x_TH, experts_TK, weights_TK, experts, residual_TH, adapters);
  return ops::ExpertsAdd(x_TH, experts_TK, weights_TK, experts, residual_TH, adapters);
}

}  // namespace rft
