#include "rft/tensor/experts.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/copy.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/expert_adapters.h"
#include "rft/tensor/experts_grouping.h"
#include "rft/tensor/grouped_gemm.h"
#include "rft/tensor/linear_backward.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/prefetch.h"
#include "rft/tensor/recording.h"

namespace rft {

void ExpertWeights::Pack(const std::vector<std::vector<Parameter*>>& gate_up_parts,
                         const std::vector<Parameter*>& down_parts, at::ScalarType dtype,
                         const ValueUpdate& update) {
  const auto num = static_cast<int64_t>(down_parts.size());
  if (gate_up.empty()) {
    for (int64_t e = 0; e < num; ++e) {
      gate_up.push_back(Weight::Create(gate_up_parts[e], dtype));
      down.push_back(Weight::Create({down_parts[e]}, dtype));
    }
    return;
  }
  const int64_t work = num * (gate_up[0].n * gate_up[0].k + down[0].n * down[0].k);
  ParallelTasks(2 * num, work, [&](int64_t i) { (i % 2 ? down : gate_up)[i / 2].Repack(update); });
}

namespace ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kFewTasks = 2;   // per thread: fewer leave threads without work at the end
constexpr int64_t kRowsAhead = 2;  // of rows that are picked out

// rows[p] = x[token[p]].
template <typename T>
at::Tensor GatherRows(const at::Tensor& x, const int32_t* token, int64_t count) {
  const int64_t h = x.size(1);
  at::Tensor rows = at::empty({count, h}, x.options());
  const T* from = Data<T>(x);
  T* to = Data<T>(rows);
  ParallelFor(count, GrainFor(h), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      PrefetchRow(from + token[std::min(p + kRowsAhead, count - 1)] * h, h);
      std::memcpy(to + p * h, from + token[p] * h, h * sizeof(T));
    }
  });
  return rows;
}

// The pairs' gate weights, in the pairs' order.
std::vector<float> PairWeights(const at::Tensor& weights, const Grouping& g) {
  std::vector<float> w(g.pairs());
  const float* of_slot = Data<float>(weights);
  const auto* slot = Data<int64_t>(g.slot_P);
  for (int64_t p = 0; p < g.pairs(); ++p) w[p] = of_slot[slot[p]];
  return w;
}

template <typename T>
ExpertMatrices<T> Matrices(const std::vector<Weight>& weights, const Grouping& g) {
  ExpertMatrices<T> m;
  for (const Weight& w : weights) {
    if (w.is_int8())
      m.int8.push_back({Data<int8_t>(w.packed), Data<float>(w.scales_N)});
    else
      m.packed.push_back(Data<T>(w.packed));
  }
  m.offsets = Data<int64_t>(g.offsets_E1);
  m.k = weights[0].k;
  m.n = weights[0].n;
  return m;
}

// y = residual + the experts' outputs; returns [gate | up] of the pairs. y may be the residual.
at::Tensor AddInto(const at::Tensor& x, const at::Tensor& gate_weights, const Grouping& g,
                   const ExpertWeights& weights, const PairAdapters& adapters,
                   const at::Tensor& residual, const at::Tensor& y) {
  at::Tensor gate_up = at::empty({g.pairs(), weights.gate_up[0].n}, x.options());
  const std::vector<float> pair_weights = PairWeights(gate_weights, g);
  DispatchFloat(x.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* token = Data<int32_t>(g.token_P);
    const int64_t i = gate_up.size(1) / 2;
    const at::Tensor activation = at::empty({g.pairs(), i}, x.options());
    const auto swiglu = GetKernels().typed<T>().swiglu;
    const T* gates = Data<T>(gate_up);
    T* acts = Data<T>(activation);
    const auto activate = [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        swiglu(gates + p * 2 * i, gates + p * 2 * i + i, i, acts + p * i);
    };
    at::Tensor outputs_PH;
    if (adapters.adapts_gate_up()) {
      GroupedGemm(Data<T>(x), Matrices<T>(weights.gate_up, g), Data<T>(gate_up), token);
      adapters.GateUp(GatherRows<T>(x, token, g.pairs()), gate_up);
      ParallelFor(g.pairs(), GrainFor(8 * i), activate);
    } else if (KeepsThreadsBusyByRows(g.pairs())) {
      outputs_PH = at::empty({g.pairs(), x.size(1)}, y.options());
      GroupedGemmChain(Data<T>(x), Matrices<T>(weights.gate_up, g), Data<T>(gate_up), token,
                       activate, acts, Matrices<T>(weights.down, g), Data<float>(outputs_PH));
    } else {
      GroupedGemm(Data<T>(x), Matrices<T>(weights.gate_up, g), Data<T>(gate_up), token, activate);
    }
    if (outputs_PH.defined())
      AddToTokens(outputs_PH, g, pair_weights.data(), residual, y);
    else
      GroupedGemmAdd(Data<T>(activation), Matrices<T>(weights.down, g), token, pair_weights.data(),
                     x.size(0), Data<float>(residual), Data<float>(y));
    if (const at::Tensor delta = adapters.Down(activation); delta.defined())
      AddToTokens(delta, g, pair_weights.data(), y, y);
  });
  return gate_up;
}

// What adapters on the down projection add to the backward. `own` is d(out)/d(weight) of their part.
struct DownGradients {
  std::vector<float> own;     // P; empty: no adapters
  at::Tensor dactivation_PI;  // weighted, x's dtype
};

template <typename T>
DownGradients AdapterDownBackward(const at::Tensor& gate_up, const at::Tensor& dy,
                                  const std::vector<float>& pair_weights,
                                  const PairAdapters& adapters) {
  DownGradients result;
  const int64_t pairs = dy.size(0), h = dy.size(1);
  const at::Tensor activation = SwiGlu(gate_up), delta = adapters.Down(activation),
                   weighted = at::empty_like(dy);
  const auto& kernels = GetKernels().typed<T>();
  result.own.resize(pairs);
  const T* g = Data<T>(dy);
  const auto* down = Data<float>(delta);
  T* out = Data<T>(weighted);
  ParallelFor(pairs, GrainFor(4 * h), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const T* row = g + p * h;
      double sum = 0.0;
      for (int64_t c = 0; c < h; ++c) sum += ToFloat(row[c]) * down[p * h + c];
      result.own[p] = static_cast<float>(sum);
      kernels.scale(row, pair_weights[p], h, out + p * h);
    }
  });
  result.dactivation_PI = at::zeros_like(activation);
  adapters.DownBackward(activation, weighted, result.dactivation_PI);
  return result;
}

// Calls body(e) for every expert that has pairs, the longer ones first. One that would keep its thread busy when the others are
// done is for all threads: its own loops are parallel.
void ForExperts(const Grouping& g, int64_t work, const std::function<void(int64_t)>& body) {
  std::vector<int64_t> experts;
  for (int64_t e = 0; e < g.num_experts(); ++e)
    if (g.count(e) > 0) experts.push_back(e);
  std::stable_sort(experts.begin(), experts.end(),
                   [&](int64_t a, int64_t b) { return g.count(a) > g.count(b); });
  const auto num = static_cast<int64_t>(experts.size());
  int64_t shared = 0;
  while (shared < num && kFewTasks * NumThreads() * g.count(experts[shared]) > g.pairs())
    body(experts[shared++]);
  ParallelTasks(num - shared, work, [&](int64_t task) { body(experts[shared + task]); });
}

struct Gradients {
  at::Tensor dx, dweights;
};

// d(out)/d(weight of a pair) is its expert's output, which isn't kept: <dout, down(act)> = <dout W_down, act>.
template <typename T>
Gradients BackwardOf(const at::Tensor& x, const at::Tensor& gate_weights, const at::Tensor& gate_up,
                     const at::Tensor& dout, const Grouping& g, const ExpertWeights& weights,
                     const PairAdapters& adapters) {
  const int64_t h = x.size(1), i = gate_up.size(1) / 2, pairs = g.pairs();
  const auto& kernels = GetKernels().typed<T>();
  const at::ScalarType dtype = x.scalar_type();
  const at::Tensor dy = Convert(dout, dtype);  // by token
  const auto* token = Data<int32_t>(g.token_P);
  at::Tensor dweights = at::empty(gate_weights.sizes(), gate_weights.options()),
             dx = at::empty(x.sizes(), x.options().dtype(at::kFloat)),
             drows = at::empty({pairs, h}, dx.options());
  at::Tensor dgate_up_of_all;  // for the adapters
  if (adapters.adapts_gate_up()) dgate_up_of_all = at::empty({pairs, 2 * i}, x.options());
  DownGradients of_adapters;
  if (adapters.adapts_down())
    of_adapters = AdapterDownBackward<T>(gate_up, GatherRows<T>(dy, token, pairs),
                                         PairWeights(gate_weights, g), adapters);
  const auto* slots = Data<int64_t>(g.slot_P);
  const float* gate_weight = Data<float>(gate_weights);
  float* dweight = Data<float>(dweights);
  const T *gates = Data<T>(gate_up),
          *more = adapters.adapts_down() ? Data<T>(of_adapters.dactivation_PI) : nullptr;
  // All of one expert, while its rows are in the cache.
  const auto differentiate = [&](int64_t e) {
    const int64_t first = g.begin(e), count = g.count(e);
    const Weight &up = weights.gate_up[e], &down = weights.down[e];
    const at::Tensor dexpert = GatherRows<T>(dy, token + first, count),
                     dactivation = InputGradient(dexpert, PackTransposed(down, dtype), down),
                     weighted = at::empty_like(dactivation),
                     dgate_up = dgate_up_of_all.defined() ? dgate_up_of_all.narrow(0, first, count)
                                                          : at::empty({count, 2 * i}, x.options());
    const T* dacts = Data<T>(dactivation);
    T *acts = Data<T>(weighted), *dgates = Data<T>(dgate_up);
    ParallelFor(count, GrainFor(24 * i), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t p = first + r, slot = slots[p];
        const T* gate = gates + p * 2 * i;
        T* dgate = dgates + r * 2 * i;
        PrefetchRow(gate + 2 * i, 2 * i);
        dweight[slot] = kernels.swiglu_weighted_backward(
            gate, gate + i, dacts + r * i, gate_weight[slot], more ? more + p * i : nullptr, i,
            acts + r * i, dgate, dgate + i);
        if (more) dweight[slot] += of_adapters.own[p];
      }
    });
    if (NeedsWeightGradient(down)) AccumulateWeightGradient(weighted, dexpert, down);
    if (NeedsWeightGradient(up)) AccumulateWeightGradient({x, token + first, count}, dgate_up, up);
    const at::Tensor transposed = PackTransposed(up, dtype);
    GemmToFloat(dgates, 2 * i, Data<T>(transposed), count, 2 * i, h, Data<float>(drows) + first * h,
                h, false);
  };
  ForExperts(g, pairs * 9 * i * h, differentiate);
  if (adapters.adapts_gate_up())
    adapters.GateUpBackward(GatherRows<T>(x, token, pairs), dgate_up_of_all, drows);
  AddToTokens(drows, g, nullptr, at::Tensor(), dx);
  return {Convert(dx, dtype), dweights};
}

// Autograd keeps integers: four of each adapter.
std::vector<int64_t> ToInts(const std::vector<ExpertAdapter>& adapters) {
  std::vector<int64_t> ints;
  for (const ExpertAdapter& a : adapters)
    ints.insert(ints.end(), {a.begin, a.count, reinterpret_cast<int64_t>(a.experts),
                             reinterpret_cast<int64_t>(a.dropout)});
  return ints;
}
std::vector<ExpertAdapter> FromInts(const std::vector<int64_t>& ints) {
  std::vector<ExpertAdapter> adapters;
  for (size_t i = 0; i < ints.size(); i += 4)
    adapters.push_back({ints[i], ints[i + 1], reinterpret_cast<const ExpertLowRank*>(ints[i + 2]),
                        reinterpret_cast<const LowRankDropout*>(ints[i + 3])});
  return adapters;
}

struct ExpertsFunction : torch::autograd::Function<ExpertsFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& experts,
                            const at::Tensor& gate_weights, const at::Tensor& residual,
                            int64_t weights_ptr, std::vector<int64_t> adapters) {
    const auto& weights = *reinterpret_cast<const ExpertWeights*>(weights_ptr);
    const Grouping g = GroupByExpert(experts, weights.num_experts());
    at::Tensor y = at::empty_like(residual);
    const at::Tensor gate_up =
        AddInto(x, gate_weights, g, weights, PairAdapters(FromInts(adapters), g), residual, y);
    ctx->save_for_backward({x, gate_weights, gate_up, g.offsets_E1, g.token_P, g.slot_P});
    ctx->saved_data["weights"] = weights_ptr;
    ctx->saved_data["adapters"] = adapters;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& weights =
        *reinterpret_cast<const ExpertWeights*>(ctx->saved_data["weights"].toInt());
    const Grouping g{saved[3], saved[4], saved[5]};
    const PairAdapters adapters(FromInts(ctx->saved_data["adapters"].toIntVector()), g);
    Gradients result;
    DispatchFloat(saved[0].scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      result =
          BackwardOf<T>(saved[0], saved[1], saved[2], grads[0].contiguous(), g, weights, adapters);
    });
    return {result.dx, at::Tensor(), result.dweights, grads[0], at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor ExpertsAdd(const at::Tensor& x_TH, const at::Tensor& experts_TK,
                      const at::Tensor& weights_TK, const ExpertWeights& weights,
                      const at::Tensor& residual_TH, const std::vector<ExpertAdapter>& adapters) {
  TORCH_CHECK(weights.num_experts() > 0 && x_TH.dim() == 2 &&
                  x_TH.size(1) == weights.gate_up[0].k && x_TH.is_contiguous() &&
                  x_TH.scalar_type() == weights.gate_up[0].compute_dtype(),
              "experts: expected a contiguous [T, H] of the weights' dtype, got ", x_TH.sizes());
  TORCH_CHECK(experts_TK.dim() == 2 && experts_TK.size(0) == x_TH.size(0) &&
                  experts_TK.scalar_type() == at::kInt && experts_TK.is_contiguous() &&
                  weights_TK.sizes() == experts_TK.sizes() &&
                  weights_TK.scalar_type() == at::kFloat && weights_TK.is_contiguous(),
              "experts: expected contiguous int32 experts and float32 weights [T, K], got ",
              experts_TK.sizes(), " and ", weights_TK.sizes());
  TORCH_CHECK(residual_TH.scalar_type() == at::kFloat && residual_TH.is_contiguous() &&
                  residual_TH.sizes() == x_TH.sizes(),
              "experts: the residual must be a contiguous float32 ", x_TH.sizes());
  if (Recording(x_TH))
    return ExpertsFunction::apply(x_TH, experts_TK, weights_TK, residual_TH,
                                  reinterpret_cast<int64_t>(&weights), ToInts(adapters));
  const Grouping g = GroupByExpert(experts_TK, weights.num_experts());
  AddInto(x_TH, weights_TK, g, weights, PairAdapters(adapters, g), residual_TH, residual_TH);
  return residual_TH;
}

}  // namespace ops
}  // namespace rft
