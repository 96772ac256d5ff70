#include "rft/models/routing.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"
#include "rft/tensor/router.h"

namespace rft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowBlock =
    256;  // rows per partial sum: fixed, so that sums don't depend on threads

// Probabilities of one row into p[E]; returns log(sum exp logits).
double Probabilities(const float* logits, const RouterConfig& c, float* p) {
  const float lse = GetKernels().row_stats(logits, c.num_experts, 1.0f, nullptr).log_sum_exp;
  if (c.score == RouterConfig::Score::kSoftmax) {
    GetKernels().row_exp(logits, c.num_experts, 1.0f, lse, p);
    return lse;
  }
  float sum = 0.0f;
  for (int64_t e = 0; e < c.num_experts; ++e) sum += p[e] = 1.0f / (1.0f + std::exp(-logits[e]));
  for (int64_t e = 0; e < c.num_experts; ++e) p[e] /= sum;
  return lse;
}

// Half the L1 distance of two sparse weight vectors with ascending ids.
double Distance(const int32_t* a, const float* wa, const int32_t* b, const float* wb, int64_t k) {
  double sum = 0.0;
  for (int64_t i = 0, j = 0; i < k || j < k;) {
    if (j == k || (i < k && a[i] < b[j]))
      sum += std::abs(wa[i++]);
    else if (i == k || b[j] < a[i])
      sum += std::abs(wb[j++]);
    else
      sum += std::abs(wa[i++] - wb[j++]);
  }
  return 0.5 * sum;
}

void SumRow(const float* logits, const int32_t* used, const RouterConfig& c, int64_t index,
            float* p, RoutingSums& sums) {
  const double lse = Probabilities(logits, c, p);
  ++sums.pairs;
  sums.squared_log_sum += lse * lse;
  for (int64_t e = 0; e < c.num_experts; ++e) {
    sums.probability[e] += p[e];
    if (p[e] > 0.0f) sums.entropy -= p[e] * std::log(p[e]);
  }
  for (int64_t j = 0; j < c.top_k; ++j) {
    ++sums.chosen[used[j]];
    ++sums.layer_chosen[index * c.num_experts + used[j]];
  }
}

RoutingSums Zeros(const RouterConfig& c, int64_t num_layers) {
  RoutingSums sums;
  sums.chosen.assign(c.num_experts, 0.0);
  sums.probability.assign(c.num_experts, 0.0);
  sums.layer_chosen.assign(c.num_experts * num_layers, 0.0);
  return sums;
}

void Summarize(const at::Tensor& logits, const at::Tensor& live, const at::Tensor& used,
               const at::Tensor& replay, const RouterConfig& c, int64_t index, int64_t num_layers,
               RoutingSums& total) {
  const int64_t t = logits.size(0), n = c.num_experts, k = c.top_k;
  const int64_t blocks = (t + kRowBlock - 1) / kRowBlock;
  std::vector<RoutingSums> partial(blocks, Zeros(c, num_layers));
  const at::Tensor live_weights = replay.defined() ? ops::GateWeights(logits, live, c) : replay,
                   used_weights = replay.defined() ? ops::GateWeights(logits, used, c) : replay;
  ParallelFor(blocks, GrainFor(kRowBlock * n * 32), [&](int64_t begin, int64_t end) {
    std::vector<float> p(n);
    for (int64_t i = begin * kRowBlock; i < std::min(t, end * kRowBlock); ++i) {
      RoutingSums& sums = partial[i / kRowBlock];
      const int32_t *ids = Data<int32_t>(used) + i * k, *now = Data<int32_t>(live) + i * k;
      SumRow(Data<float>(logits) + i * n, ids, c, index, p.data(), sums);
      if (!replay.defined() || Data<int32_t>(replay)[(i * num_layers + index) * k] < 0) continue;
      ++sums.replayed;
      sums.changed += !std::equal(ids, ids + k, now);
      sums.weight_drift += Distance(now, Data<float>(live_weights) + i * k, ids,
                                    Data<float>(used_weights) + i * k, k);
    }
  });
  for (const RoutingSums& sums : partial) total.Add(sums);
}

// d LoadBalance / d p_e = (E / N) f_e with f_e = chosen_e / N; softmax: d / d l_j = p_j (f_j - sum f p);
// sigmoid / sum: s_j (1 - s_j) / S (f_j - sum f p) = p_j (1 - s_j) (f_j - sum f p). d z / d l_j = 2 lse softmax_j / N.
struct PenaltyFunction : torch::autograd::Function<PenaltyFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits, int64_t config,
                            int64_t routing) {
    ctx->save_for_backward({logits});
    ctx->saved_data["config"] = config;
    ctx->saved_data["routing"] = routing;
    return logits.clone();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& c = *reinterpret_cast<const RouterConfig*>(ctx->saved_data["config"].toInt());
    const auto& routing = *reinterpret_cast<const Routing*>(ctx->saved_data["routing"].toInt());
    const at::Tensor logits = ctx->get_saved_variables()[0];
    at::Tensor dlogits = grads[0].clone();
    const int64_t n = c.num_experts;
    const double pairs = routing.sums.pairs, weight = routing.penalty.weight;
    const double load = weight * routing.penalty.load_balance * static_cast<double>(n) / pairs,
                 z = weight * routing.penalty.z * 2.0 / pairs;
    const bool softmax = c.score == RouterConfig::Score::kSoftmax;
    ParallelFor(logits.size(0), GrainFor(32 * n), [&](int64_t begin, int64_t end) {
      std::vector<float> p(n);
      for (int64_t i = begin; i < end; ++i) {
        const float* row = Data<float>(logits) + i * n;
        const double lse = Probabilities(row, c, p.data());
        double mean = 0.0;
        for (int64_t e = 0; e < n; ++e) mean += routing.sums.chosen[e] / pairs * p[e];
        for (int64_t e = 0; e < n; ++e) {
          const double rest = softmax ? 1.0 : 1.0 / (1.0 + std::exp(row[e]));
          Data<float>(dlogits)[i * n + e] +=
              static_cast<float>(load * p[e] * rest * (routing.sums.chosen[e] / pairs - mean) +
                                 z * lse * std::exp(row[e] - lse));
        }
      }
    });
    return {dlogits, at::Tensor(), at::Tensor()};
  }
};

bool IsPenalised(const Routing& routing) {
  return routing.penalty.load_balance != 0.0 || routing.penalty.z != 0.0;
}

void AddVector(const std::vector<double>& from, std::vector<double>& to) {
  to.resize(std::max(to.size(), from.size()), 0.0);
  for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

}  // namespace

void RoutingSums::Add(const RoutingSums& o) {
  pairs += o.pairs;
  replayed += o.replayed;
  changed += o.changed;
  weight_drift += o.weight_drift;
  entropy += o.entropy;
  squared_log_sum += o.squared_log_sum;
  AddVector(o.chosen, chosen);
  AddVector(o.probability, probability);
  AddVector(o.layer_chosen, layer_chosen);
}

double RoutingSums::LoadBalance() const {
  double sum = 0.0;
  for (size_t e = 0; e < chosen.size(); ++e) sum += chosen[e] * probability[e];
  return pairs > 0 ? static_cast<double>(chosen.size()) * sum / (pairs * pairs) : 0.0;
}

double RoutingSums::MaxLoad() const {
  double sum = 0.0, layers = 0.0;
  for (size_t l = 0; l < layer_chosen.size(); l += chosen.size(), ++layers) {
    double most = 0.0, all = 0.0;
    for (size_t e = 0; e < chosen.size(); ++e) {
      most = std::max(most, layer_chosen[l + e]);
      all += layer_chosen[l + e];
    }
    if (all > 0) sum += most * static_cast<double>(chosen.size()) / all;
  }
  return layers > 0 ? sum / layers : 0.0;
}

bool NeedsAllTokens(const Routing* routing) {
  return routing && (routing->capture || IsPenalised(*routing));
}

Routing RoutingOfRows(const Routing& routing, const at::Tensor& rows_N) {
  Routing result{.summarize = routing.summarize};
  if (routing.replay_TMK.defined())
    result.replay_TMK = routing.replay_TMK.index_select(0, rows_N.cpu());
  return result;
}

at::Tensor ChooseOrReplay(const at::Tensor& logits_TE, const at::Tensor& bias_E,
                          const RouterConfig& config, int64_t index, int64_t num_layers,
                          Routing* routing) {
  const at::Tensor live = ops::ChooseExperts(logits_TE, bias_E, config);
  if (!routing) return live;
  const int64_t k = config.top_k, t = live.size(0);
  const at::Tensor& replay = routing->replay_TMK;
  at::Tensor used = live;
  if (replay.defined()) {
    TORCH_CHECK(replay.dim() == 3 && replay.size(0) == t && replay.size(1) == num_layers &&
                    replay.size(2) == k && replay.is_contiguous() &&
                    replay.scalar_type() == at::kInt,
                "routing: expected replayed int32 experts [", t, ", ", num_layers, ", ", k,
                "], got ", replay.sizes());
    used = live.clone();
    for (int64_t i = 0; i < t; ++i) {
      const int32_t* row = Data<int32_t>(replay) + (i * num_layers + index) * k;
      if (row[0] >= 0) std::copy_n(row, k, Data<int32_t>(used) + i * k);
    }
  }
  if (routing->capture) {
    at::Tensor& out = routing->used_TMK;
    if (!out.defined()) out = at::empty({t, num_layers, k}, at::kInt);
    for (int64_t i = 0; i < t; ++i)
      std::copy_n(Data<int32_t>(used) + i * k, k,
                  Data<int32_t>(out) + (i * num_layers + index) * k);
  }
  if (routing->summarize)
    Summarize(logits_TE, live, used, replay, config, index, num_layers, routing->sums);
  return used;
}

at::Tensor WithPenalty(const at::Tensor& logits_TE, const RouterConfig& config, Routing* routing) {
  if (!routing || !IsPenalised(*routing) || !ops::Recording(logits_TE)) return logits_TE;
  TORCH_CHECK(routing->summarize, "routing: a penalty needs the sums");
  return PenaltyFunction::apply(logits_TE, reinterpret_cast<int64_t>(&config),
                                reinterpret_cast<int64_t>(routing));
}

}  // namespace rft
