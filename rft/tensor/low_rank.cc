#include "rft/tensor/low_rank.h"

#include <algorithm>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/core/rng.h"
#include "rft/tensor/composite.h"
#include "rft/tensor/copy.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/linear_backward.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"

namespace rft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Rows {
  int64_t begin, count;
};

// y = C(x * scale), element by element.
template <typename T>
void ScaleTo(const float* x, int64_t n, float scale, T* y) {
  ParallelFor(n, kMinParallelWork, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = FromFloat<T>(x[i] * scale);
  });
}

// x of the rows, with dropout applied when there is some. `site` tells one layer's mask from another's.
at::Tensor Input(const at::Tensor& x, Rows rows, const LowRankDropout* dropout, uint64_t site) {
  at::Tensor part = x.narrow(0, rows.begin, rows.count);
  if (dropout == nullptr || dropout->p == 0.0) return part;
  TORCH_CHECK(dropout->keys_T.size(0) == x.size(0), "low_rank: one dropout key per token");
  const int64_t k = x.size(1);
  const uint64_t seed = BitsAt(dropout->seed, 0x6c6f7261, site);
  const auto threshold = static_cast<uint32_t>(dropout->p * 65536.0);
  const float keep = static_cast<float>(1.0 / (1.0 - dropout->p));
  at::Tensor y = at::empty({rows.count, k}, x.options());
  DispatchFloat(x.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    ParallelFor(rows.count, GrainFor(4 * k), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto key = static_cast<uint64_t>(Data<int64_t>(dropout->keys_T)[rows.begin + i]);
        const T* from = Data<T>(part) + i * k;
        T* to = Data<T>(y) + i * k;
        for (int64_t c = 0; c < k; c += 4) {
          uint64_t bits = BitsAt(seed, key, static_cast<uint64_t>(c));
          for (int64_t j = c; j < std::min(k, c + 4); ++j, bits >>= 16)
            to[j] = FromFloat<T>((bits & 0xffff) < threshold ? 0.0f : ToFloat(from[j]) * keep);
        }
      }
    });
  });
  return y;
}

// s (x A^T) of the rows, in C: [count, inner].
at::Tensor Project(const at::Tensor& x, const LowRank& w) {
  const int64_t t = x.size(0), inner = w.inner();
  at::Tensor raw = at::empty({t, inner}, x.options().dtype(at::kFloat));
  at::Tensor h = at::empty({t, inner}, x.options());
  DispatchFloat(w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GemmToFloat(Data<T>(x), w.k, Data<T>(w.a_packed), t, w.k, inner, Data<float>(raw), inner,
                false);
    ScaleTo(Data<float>(raw), t * inner, w.scale, Data<T>(h));
  });
  return h;
}

// y[rows] += h B^T. For float32 y straight into it, otherwise through a float32 panel and one rounding.
void AddExpanded(const at::Tensor& h, const LowRank& w, Rows rows, const at::Tensor& y) {
  const int64_t n = y.size(1), inner = w.inner(), r = w.padded_rank();
  DispatchFloat(w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (size_t i = 0; i < w.parts.size(); ++i) {
      const LowRank::Part& part = w.parts[i];
      const T* a = Data<T>(h) + static_cast<int64_t>(i) * r;
      const int64_t at = rows.begin * n + part.column;
      if (y.scalar_type() == at::kFloat) {
        GemmToFloat(a, inner, Data<T>(part.b_packed), rows.count, r, part.n, Data<float>(y) + at, n,
                    true);
        continue;
      }
      at::Tensor delta = at::empty({rows.count, part.n}, y.options().dtype(at::kFloat));
      GemmToFloat(a, inner, Data<T>(part.b_packed), rows.count, r, part.n, Data<float>(delta),
                  part.n, false);
      T* out = Data<T>(y) + at;
      ParallelFor(rows.count, GrainFor(part.n), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t)
          for (int64_t c = 0; c < part.n; ++c)
            out[t * n + c] =
                FromFloat<T>(ToFloat(out[t * n + c]) + Data<float>(delta)[t * part.n + c]);
      });
    }
  });
}

// dh = s dy B, and B's gradient. dy_TN covers all rows; h is what the forward made.
at::Tensor ExpandBackward(const at::Tensor& dy, const at::Tensor& h, const LowRank& w, Rows rows) {
  const int64_t inner = w.inner(), r = w.padded_rank();
  at::Tensor raw = at::zeros({rows.count, inner}, dy.options().dtype(at::kFloat));
  at::Tensor dh = at::empty({rows.count, inner}, dy.options());
  DispatchFloat(w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (size_t i = 0; i < w.parts.size(); ++i) {
      const LowRank::Part& part = w.parts[i];
      const int64_t column = static_cast<int64_t>(i) * r;
      at::Tensor packed = at::empty({PackedElements<T>(part.n, w.rank)}, dy.options());
      Pack(RowsSource(Data<float>(part.b->value), w.rank), part.n, w.rank, Data<T>(packed));
      at::Tensor own = dy.narrow(0, rows.begin, rows.count).narrow(1, part.column, part.n);
      if (sizeof(T) == 2 && part.n % 2 != 0)  // the kernel reads pairs
        own = at::constant_pad_nd(own, {0, 1});
      const T* g = Data<T>(own);
      const int64_t ld = own.stride(0);
      GemmToFloat(g, ld, Data<T>(packed), rows.count, own.size(1), w.rank,
                  Data<float>(raw) + column, inner, false);
      ops::AddTransposedProduct(own, h.narrow(1, column, w.rank), {{0, part.b->grad}});
    }
    ScaleTo(Data<float>(raw), rows.count * inner, w.scale, Data<T>(dh));
  });
  return dh;
}

// A's gradient, and dx of the rows.
at::Tensor ProjectBackward(const at::Tensor& dh, const at::Tensor& x, const LowRank& w) {
  const int64_t t = dh.size(0), inner = w.inner(), r = w.padded_rank();
  at::Tensor dx = at::empty({t, w.k}, dh.options());
  DispatchFloat(w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    at::Tensor stacked = at::zeros({inner, w.k}, at::kFloat);
    std::vector<ops::GradientOfColumns> grads;
    for (size_t i = 0; i < w.parts.size(); ++i) {
      const LowRank::Part& part = w.parts[i];
      const int64_t column = static_cast<int64_t>(i) * r;
      stacked.narrow(0, column, w.rank).copy_(part.a->value);
      grads.push_back({column, part.a->grad});
    }
    ops::AddTransposedProduct(dh, x, grads);
    at::Tensor packed = at::empty({PackedElements<T>(inner, w.k)}, dh.options());
    Pack(RowsSource(Data<float>(stacked), w.k), inner, w.k, Data<T>(packed));
    Gemm(Data<T>(dh), inner, Data<T>(packed), t, inner, w.k, Data<T>(dx), w.k);
  });
  return dx;
}

struct LowRankFunction : torch::autograd::Function<LowRankFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& y, const at::Tensor& x,
                            int64_t adapter, int64_t begin, int64_t count, int64_t dropout) {
    const LowRankRows rows{reinterpret_cast<const LowRank*>(adapter), begin, count};
    const at::Tensor h =
        ops::LowRankForward(y, x, rows, reinterpret_cast<const LowRankDropout*>(dropout));
    ctx->mark_dirty({y});
    ctx->save_for_backward({x, h});
    ctx->saved_data["adapter"] = adapter;
    ctx->saved_data["begin"] = begin;
    ctx->saved_data["count"] = count;
    ctx->saved_data["dropout"] = dropout;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const LowRankRows rows{reinterpret_cast<const LowRank*>(ctx->saved_data["adapter"].toInt()),
                           ctx->saved_data["begin"].toInt(), ctx->saved_data["count"].toInt()};
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &h = saved[1];
    const at::Tensor dy = Convert(grads[0].contiguous(), rows.adapter->dtype);
    const at::Tensor part = ops::LowRankBackward(
        dy, h, x, rows,
        reinterpret_cast<const LowRankDropout*>(ctx->saved_data["dropout"].toInt()));
    at::Tensor dx = part;
    if (rows.count != x.size(0)) {
      dx = at::zeros_like(x);
      dx.narrow(0, rows.begin, rows.count).copy_(part);
    }
    return {grads[0], dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// Adds g [count, r] to the columns ids[0 .. count) of A's gradient [r, V], token after token.
void ScatterColumns(const at::Tensor& g, const int64_t* ids, const Parameter& a) {
  if (!a.grad.defined()) return;
  const int64_t r = g.size(1), v = a.grad.size(1);
  for (int64_t t = 0; t < g.size(0); ++t)
    for (int64_t i = 0; i < r; ++i)
      Data<float>(a.grad)[i * v + ids[t]] += Data<float>(g)[t * r + i];
}

struct EmbeddingLowRankFunction : torch::autograd::Function<EmbeddingLowRankFunction> {
  // Adds to the rows of x and keeps h = s A^T[ids].
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& ids,
                            int64_t adapter, int64_t begin, int64_t count) {
    const auto& w = *reinterpret_cast<const EmbeddingLowRank*>(adapter);
    const int64_t r = w.expand.rank;
    at::Tensor h = at::empty({count, r}, at::kFloat);
    for (int64_t t = 0; t < count; ++t)
      for (int64_t i = 0; i < r; ++i)
        Data<float>(h)[t * r + i] =
            Data<float>(w.a_VR)[Data<int64_t>(ids)[begin + t] * r + i] * w.expand.scale;
    AddExpanded(h, w.expand, {begin, count}, x);
    if (ctx == nullptr) return x;
    ctx->mark_dirty({x});
    ctx->save_for_backward({ids, h});
    ctx->saved_data["adapter"] = adapter;
    ctx->saved_data["begin"] = begin;
    return x;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& w = *reinterpret_cast<const EmbeddingLowRank*>(ctx->saved_data["adapter"].toInt());
    const auto saved = ctx->get_saved_variables();
    const Rows rows{ctx->saved_data["begin"].toInt(), saved[1].size(0)};
    const at::Tensor dh = ExpandBackward(grads[0].contiguous(), saved[1], w.expand, rows);
    ScatterColumns(dh, Data<int64_t>(saved[0]) + rows.begin, *w.expand.parts[0].a);
    return {grads[0], at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

void PackB(LowRank::Part& part, int64_t rank, at::ScalarType dtype) {
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!part.b_packed.defined()) {
      part.n = part.b->value.size(0);
      part.b_packed = at::empty({PackedElements<T>(rank, part.n)}, dtype);
    }
    Pack(WeightSource(Data<float>(part.b->value), rank), rank, part.n, Data<T>(part.b_packed));
  });
}

}  // namespace

EmbeddingLowRank::EmbeddingLowRank(Parameter* a, Parameter* b, float scale) {
  expand.rank = a->value.size(0);
  expand.scale = scale;
  expand.parts = {{.column = 0, .n = 0, .a = a, .b = b, .b_packed = {}}};
  a_VR = at::empty({a->value.size(1), a->value.size(0)},
                   at::TensorOptions(a->device()).dtype(at::kFloat));
  Repack();
}

void EmbeddingLowRank::Repack() {
  if (!a_VR.is_cpu()) {
    LowRank::Part& part = expand.parts[0];
    part.n = part.b->value.size(0);
    if (!part.b_packed.defined()) part.b_packed = at::empty(part.b->value.sizes(), a_VR.options());
    part.b_packed.copy_(part.b->value);
    a_VR.copy_(part.a->value.t());
    return;
  }
  PackB(expand.parts[0], expand.rank, at::kFloat);
  const int64_t r = expand.rank, vocab = a_VR.size(0);
  const float* a = Data<float>(expand.parts[0].a->value);
  ParallelFor(vocab, GrainFor(r), [&](int64_t begin, int64_t end) {
    for (int64_t id = begin; id < end; ++id)
      for (int64_t i = 0; i < r; ++i) Data<float>(a_VR)[id * r + i] = a[i * vocab + id];
  });
}

void LowRank::Repack() {
  if (!parts[0].a->device().is_cpu()) return ops::composite::Stack(*this);
  const int64_t r = padded_rank(), panels = RoundUp(inner(), kPanelWidth) / kPanelWidth;
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!a_packed.defined()) a_packed = at::empty({PackedElements<T>(k, inner())}, dtype);
    const auto pack = GetKernels().typed<T>().pack_panel_from_float;
    ParallelFor(panels, GrainFor(k * kPanelWidth), [&](int64_t begin, int64_t end) {
      std::vector<float> stacked(kPanelWidth * k);  // rows of one part's A after another's
      for (int64_t p = begin; p < end; ++p) {
        const int64_t first = p * kPanelWidth,
                      columns = std::min<int64_t>(kPanelWidth, inner() - first);
        for (int64_t c = 0; c < columns; ++c) {
          const int64_t part = (first + c) / r, row = (first + c) % r;
          float* to = stacked.data() + c * k;
          if (row < rank)
            std::copy_n(Data<float>(parts[part].a->value) + row * k, k, to);
          else
            std::fill_n(to, k, 0.0f);
        }
        pack(stacked.data(), 1, k, k, columns, Data<T>(a_packed) + p * PanelElements<T>(k));
      }
    });
  });
  for (Part& part : parts) PackB(part, rank, dtype);
}

at::Tensor DropoutFactors(const LowRankDropout& dropout, const LowRank& adapter) {
  const int64_t t = dropout.keys_T.size(0);
  return Input(at::ones({t, adapter.k}, at::kFloat), {0, t}, &dropout, adapter.site);
}

namespace ops {

at::Tensor LowRankForward(const at::Tensor& y_TN, const at::Tensor& x_TK, const LowRankRows& rows,
                          const LowRankDropout* dropout) {
  const LowRank& w = *rows.adapter;
  const at::Tensor h = Project(Input(x_TK, {rows.begin, rows.count}, dropout, w.site), w);
  AddExpanded(h, w, {rows.begin, rows.count}, y_TN);
  return h;
}

at::Tensor LowRankBackward(const at::Tensor& dy_TN, const at::Tensor& h, const at::Tensor& x_TK,
                           const LowRankRows& rows, const LowRankDropout* dropout) {
  const LowRank& w = *rows.adapter;
  const Rows range{rows.begin, rows.count};
  const at::Tensor input = Input(x_TK, range, dropout, w.site);
  const at::Tensor projected = h.defined() ? h : Project(input, w);
  at::Tensor dx = ProjectBackward(ExpandBackward(dy_TN, projected, w, range), input, w);
  if (dropout != nullptr && dropout->p > 0.0) {  // the same mask and factor as x had
    const LowRankDropout of_rows{dropout->p, dropout->seed,
                                 dropout->keys_T.narrow(0, rows.begin, rows.count)};
    dx = Input(dx, {0, rows.count}, &of_rows, w.site);
  }
  return dx;
}

at::Tensor AddLowRank(const at::Tensor& y_TN, const at::Tensor& x_TK, const LowRank& adapter,
                      int64_t begin, int64_t count, const LowRankDropout* dropout) {
  TORCH_CHECK(x_TK.dim() == 2 && x_TK.size(1) == adapter.k && x_TK.is_contiguous() &&
                  x_TK.scalar_type() == adapter.dtype,
              "low_rank: expected a contiguous [T, ", adapter.k, "] of ", adapter.dtype, ", got ",
              x_TK.sizes());
  TORCH_CHECK(y_TN.is_contiguous() && y_TN.size(0) == x_TK.size(0), "low_rank: y doesn't match x");
  TORCH_CHECK(begin >= 0 && count >= 0 && begin + count <= x_TK.size(0),
              "low_rank: rows outside the batch");
  if (count == 0) return y_TN;
  if (!x_TK.is_cpu()) {
    TORCH_CHECK(count == x_TK.size(0), "low_rank: rows of several adapters are for the CPU");
    return composite::AddLowRank(y_TN, x_TK, adapter, dropout);
  }
  if (Recording(x_TK))
    return LowRankFunction::apply(y_TN, x_TK, reinterpret_cast<int64_t>(&adapter), begin, count,
                                  reinterpret_cast<int64_t>(dropout));
  LowRankForward(y_TN, x_TK, {&adapter, begin, count}, dropout);
  return y_TN;
}

at::Tensor AddLowRankEmbedding(const at::Tensor& x_TH, const at::Tensor& ids_T,
                               const EmbeddingLowRank& adapter, int64_t begin, int64_t count) {
  TORCH_CHECK(x_TH.dim() == 2 && x_TH.scalar_type() == at::kFloat && x_TH.is_contiguous() &&
                  x_TH.size(1) == adapter.expand.parts[0].n && ids_T.size(0) == x_TH.size(0),
              "low_rank: expected contiguous float32 embeddings, one row per id");
  TORCH_CHECK(begin >= 0 && count >= 0 && begin + count <= x_TH.size(0),
              "low_rank: rows outside the batch");
  if (count == 0) return x_TH;
  if (!x_TH.is_cpu()) {
    TORCH_CHECK(count == x_TH.size(0), "low_rank: rows of several adapters are for the CPU");
    return composite::AddLowRankEmbedding(x_TH, ids_T, adapter);
  }
  const auto address = reinterpret_cast<int64_t>(&adapter);
  if (Recording(x_TH)) return EmbeddingLowRankFunction::apply(x_TH, ids_T, address, begin, count);
  return EmbeddingLowRankFunction::forward(nullptr, x_TH, ids_T, address, begin, count);
}

}  // namespace ops
}  // namespace rft
