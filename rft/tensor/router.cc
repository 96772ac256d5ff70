#include "rft/tensor/router.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// In element operations: an exponential; a comparison that no branch predictor foresees.
constexpr int64_t kExpWork = 16, kCompareWork = 16;

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Ids of the `k` largest of `values` in `best`, largest first; ties: the lower id first.
void TopK(const float* values, int64_t n, int64_t k, int32_t* best) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (count == k && !(values[i] > values[best[k - 1]])) continue;
    int64_t at = count < k ? count++ : k - 1;
    while (at > 0 && values[i] > values[best[at - 1]]) {
      best[at] = best[at - 1];
      --at;
    }
    best[at] = static_cast<int32_t>(i);
  }
}

// Leaves the scores of the best groups, and -inf elsewhere.
void LimitToGroups(const RouterConfig& c, float* scores) {
  const int64_t size = c.num_experts / c.num_groups;
  std::vector<float> group(c.num_groups);
  std::vector<int32_t> best(std::max(c.top_groups, int64_t{2}));
  for (int64_t g = 0; g < c.num_groups; ++g) {
    const float* members = scores + g * size;
    TopK(members, size, std::min<int64_t>(2, size), best.data());
    group[g] = size > 1 ? members[best[0]] + members[best[1]] : members[0];
  }
  TopK(group.data(), c.num_groups, c.top_groups, best.data());
  std::vector<bool> kept(c.num_groups, false);
  for (int64_t i = 0; i < c.top_groups; ++i) kept[best[i]] = true;
  for (int64_t g = 0; g < c.num_groups; ++g)
    if (!kept[g]) std::fill_n(scores + g * size, size, -INFINITY);
}

// Score of expert `e`; log_sum_exp is that of the row (softmax only).
float Score(const float* logits, int64_t e, float log_sum_exp, const RouterConfig& c) {
  return c.score == RouterConfig::Score::kSoftmax ? std::exp(logits[e] - log_sum_exp)
                                                  : Sigmoid(logits[e]);
}
float LogSumExp(const float* logits, const RouterConfig& c) {
  return c.score == RouterConfig::Score::kSoftmax
             ? GetKernels().row_stats(logits, c.num_experts, 1.0f, nullptr).log_sum_exp
             : 0.0f;
}

// Unscaled weights of one row; returns what they were divided by.
float RowWeights(const float* logits, const int32_t* experts, const RouterConfig& c, float* out) {
  const float lse = LogSumExp(logits, c);
  float sum = 0.0f;
  for (int64_t j = 0; j < c.top_k; ++j) sum += out[j] = Score(logits, experts[j], lse, c);
  if (!c.renormalize) return 1.0f;
  sum += static_cast<float>(c.renormalize_eps);
  for (int64_t j = 0; j < c.top_k; ++j) out[j] /= sum;
  return sum;
}

at::Tensor WeightsForward(const at::Tensor& logits, const at::Tensor& experts,
                          const RouterConfig& c) {
  const int64_t t = logits.size(0);
  at::Tensor weights = at::empty({t, c.top_k}, logits.options());
  const auto scale = static_cast<float>(c.scale);
  ParallelFor(t, GrainFor(kExpWork * c.num_experts), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = Data<float>(weights) + i * c.top_k;
      RowWeights(Data<float>(logits) + i * c.num_experts, Data<int32_t>(experts) + i * c.top_k, c,
                 row);
      for (int64_t j = 0; j < c.top_k; ++j) row[j] *= scale;
    }
  });
  return weights;
}

// d loss / d logits of one row. With w_j = s_j / S (S = 1 without renormalisation):
//   d / d s_j = (dw_j - [renormalize] sum_i dw_i w_i) / S;   softmax: d / d l_e = s_e (d_e - sum_j d_j s_j);   sigmoid: d_j s_j (1 - s_j)
void RowGradient(const float* logits, const int32_t* experts, const float* dweights,
                 const RouterConfig& c, float* scratch, float* dlogits) {
  const int64_t k = c.top_k;
  float *w = scratch, *d = scratch + k;
  const float sum = RowWeights(logits, experts, c, w);
  float mean = 0.0f;
  for (int64_t j = 0; j < k; ++j) {
    d[j] = dweights[j] * static_cast<float>(c.scale);
    mean += d[j] * w[j];
  }
  for (int64_t j = 0; j < k; ++j) d[j] = (d[j] - (c.renormalize ? mean : 0.0f)) / sum;
  if (c.score == RouterConfig::Score::kSigmoid) {
    std::fill_n(dlogits, c.num_experts, 0.0f);
    for (int64_t j = 0; j < k; ++j) {
      const float s = w[j] * sum;
      dlogits[experts[j]] += d[j] * s * (1.0f - s);
    }
    return;
  }
  float dot = 0.0f;
  for (int64_t j = 0; j < k; ++j) dot += d[j] * w[j] * sum;
  GetKernels().row_exp(logits, c.num_experts, 1.0f, LogSumExp(logits, c), dlogits);
  for (int64_t e = 0; e < c.num_experts; ++e) dlogits[e] *= -dot;
  for (int64_t j = 0; j < k; ++j) dlogits[experts[j]] += d[j] * w[j] * sum;
}

struct WeightsFunction : torch::autograd::Function<WeightsFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& experts, int64_t config) {
    ctx->save_for_backward({logits, experts});
    ctx->saved_data["config"] = config;
    return WeightsForward(logits, experts, *reinterpret_cast<const RouterConfig*>(config));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &logits = saved[0], &experts = saved[1], dw = grads[0].contiguous();
    const auto& c = *reinterpret_cast<const RouterConfig*>(ctx->saved_data["config"].toInt());
    at::Tensor dlogits = at::empty(logits.sizes(), logits.options());
    const int64_t k = c.top_k, n = c.num_experts;
    ParallelFor(logits.size(0), GrainFor(2 * kExpWork * n), [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(2 * k);
      for (int64_t i = begin; i < end; ++i)
        RowGradient(Data<float>(logits) + i * n, Data<int32_t>(experts) + i * k,
                    Data<float>(dw) + i * k, c, scratch.data(), Data<float>(dlogits) + i * n);
    });
    return {dlogits, at::Tensor(), at::Tensor()};
  }
};

void CheckLogits(const at::Tensor& logits, const RouterConfig& c) {
  TORCH_CHECK(logits.dim() == 2 && logits.size(1) == c.num_experts && logits.is_contiguous() &&
                  logits.scalar_type() == at::kFloat,
              "router: expected contiguous float32 logits [T, ", c.num_experts, "], got ",
              logits.sizes());
}

}  // namespace

at::Tensor ChooseExperts(const at::Tensor& logits_TE, const at::Tensor& bias_E,
                         const RouterConfig& c) {
  CheckLogits(logits_TE, c);
  const int64_t t = logits_TE.size(0), n = c.num_experts, k = c.top_k;
  at::Tensor experts = at::empty({t, k}, logits_TE.options().dtype(at::kInt));
  const float* bias = bias_E.defined() ? Data<float>(bias_E) : nullptr;
  // Softmax keeps the order of the logits: they are compared themselves.
  const bool sigmoid = c.score == RouterConfig::Score::kSigmoid;
  const bool grouped = c.top_groups < c.num_groups;
  const int64_t work = n * (kCompareWork + (sigmoid ? kExpWork : 0));
  ParallelFor(t, GrainFor(work), [&](int64_t begin, int64_t end) {
    std::vector<float> scores(n);
    for (int64_t i = begin; i < end; ++i) {
      const float* row = Data<float>(logits_TE) + i * n;
      if (sigmoid || grouped) {
        const float lse = LogSumExp(row, c);
        for (int64_t e = 0; e < n; ++e) scores[e] = Score(row, e, lse, c) + (bias ? bias[e] : 0.0f);
        if (grouped) LimitToGroups(c, scores.data());
        row = scores.data();
      }
      int32_t* out = Data<int32_t>(experts) + i * k;
      TopK(row, n, k, out);
      std::sort(out, out + k);
    }
  });
  return experts;
}

at::Tensor GateWeights(const at::Tensor& logits_TE, const at::Tensor& experts_TK,
                       const RouterConfig& config) {
  CheckLogits(logits_TE, config);
  TORCH_CHECK(experts_TK.dim() == 2 && experts_TK.size(0) == logits_TE.size(0) &&
                  experts_TK.size(1) == config.top_k && experts_TK.is_contiguous() &&
                  experts_TK.scalar_type() == at::kInt,
              "router: expected contiguous int32 experts [T, ", config.top_k, "], got ",
              experts_TK.sizes());
  if (!Recording(logits_TE)) return WeightsForward(logits_TE, experts_TK, config);
  return WeightsFunction::apply(logits_TE, experts_TK, reinterpret_cast<int64_t>(&config));
}

}  // namespace rft::ops
