// RmsNorm and RotateHeads of ops.h.
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/norm.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/prefetch.h"
#include "rft/tensor/recording.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows per partial sum of a norm's weight gradient. Fixed, so that the order of additions doesn't depend on threads.
constexpr int64_t kRowBlock = 256;

// A gradient that is summed over rows; undefined: nobody wants it.
struct RowSum {
  int64_t width;
  at::Tensor grad;
};

// Runs rows(begin, end, partial_dw) over fixed blocks of rows and adds the partial sums, one after another for each of `sums`, in
// block order to their gradients.
template <typename Rows>
void SumOverRows(int64_t num_rows, const std::vector<RowSum>& sums, const Rows& rows) {
  const int64_t blocks = (num_rows + kRowBlock - 1) / kRowBlock;
  int64_t width = 0;
  for (const RowSum& sum : sums) width += sum.width;
  std::vector<float> partial(blocks * width, 0.0f);
  ParallelFor(blocks, GrainFor(4 * kRowBlock * width), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      rows(b * kRowBlock, std::min(num_rows, (b + 1) * kRowBlock), partial.data() + b * width);
  });
  const float* first = partial.data();
  for (const RowSum& sum : sums) {
    float* out = sum.grad.defined() ? Data<float>(sum.grad) : nullptr;
    for (int64_t b = 0; out && b < blocks; ++b)
      for (int64_t i = 0; i < sum.width; ++i) out[i] += first[b * width + i];
    first += sum.width;
  }
}

}  // namespace

at::Tensor NormForward(const at::Tensor& x, const at::Tensor& w, double eps, at::ScalarType dtype,
                       at::Tensor* rstd) {
  const CostTimer timer(Cost::kRowwise);
  const int64_t t = x.size(0), h = x.size(1);
  at::Tensor y = at::empty({t, h}, x.options().dtype(dtype));
  if (rstd) *rstd = at::empty({t}, x.options());
  DispatchFloat(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto norm = GetKernels().typed<T>().rms_norm_residual;
    const float *in = Data<float>(x), *weight = Data<float>(w);
    float* r = rstd ? Data<float>(*rstd) : nullptr;
    T* out = Data<T>(y);
    ParallelFor(t, GrainFor(2 * h), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        PrefetchRow(in + (i + 1) * h, h);
        const float inverse = norm(in + i * h, weight, static_cast<float>(eps), h, out + i * h);
        if (r) r[i] = inverse;
      }
    });
  });
  return y;
}

at::Tensor NormBackward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& rstd,
                        const at::Tensor& dy, const Parameter& parameter,
                        const at::Tensor& dresidual) {
  at::Tensor dx = at::empty_like(x);
  const int64_t h = x.size(1);
  DispatchFloat(dy.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto backward_row = GetKernels().typed<T>().rms_norm_residual_backward;
    const float *in = Data<float>(x), *weight = Data<float>(w), *r = Data<float>(rstd);
    const T* g = Data<T>(dy);
    const float* start = dresidual.defined() ? Data<float>(dresidual) : nullptr;
    float* out = Data<float>(dx);
    SumOverRows(x.size(0), {{h, parameter.grad}}, [&](int64_t begin, int64_t end, float* dw) {
      for (int64_t i = begin; i < end; ++i) {
        if (start)
          std::copy_n(start + i * h, h, out + i * h);
        else
          std::fill_n(out + i * h, h, 0.0f);
        PrefetchRow(in + (i + 1) * h, h);
        PrefetchRow(g + (i + 1) * h, h);
        if (start) PrefetchRow(start + (i + 1) * h, h);
        backward_row(in + i * h, weight, g + i * h, r[i], h, out + i * h, dw);
      }
    });
  });
  return dx;
}

variable_list NormGradients(const variable_list& saved, const at::Tensor& dy,
                            const variable_list& grads, const Parameter& parameter) {
  variable_list of_inputs(6);
  of_inputs[0] = NormBackward(saved[0], saved[1], saved[2], dy, parameter,
                              grads.size() > 1 ? grads[1].contiguous() : at::Tensor());
  return of_inputs;
}

namespace {

struct NormFunction : torch::autograd::Function<NormFunction> {
  // y, and x if `wants_residual`.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w,
                               int64_t parameter, double eps, at::ScalarType dtype,
                               bool wants_residual) {
    at::Tensor rstd, y = NormForward(x, w, eps, dtype, &rstd);
    ctx->save_for_backward({x, w, rstd});
    ctx->saved_data["parameter"] = parameter;
    return wants_residual ? variable_list{y, x.detach()} : variable_list{y};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto* parameter =
        reinterpret_cast<const Parameter*>(ctx->saved_data["parameter"].toInt());
    return NormGradients(saved, grads[0].contiguous(), grads, *parameter);
  }
};

// Calls body(first column, width, weight, index among the row's norms) for each vector of q or k that is normed by itself.
template <typename Body>
void ForNormed(const HeadLayout& l, const HeadNorm& norm, const Body& body) {
  const int64_t d = l.head_dim, q = norm.q_weight_D.numel(), k = norm.k_weight_D.numel();
  const float *q_weight = Data<float>(norm.q_weight_D), *k_weight = Data<float>(norm.k_weight_D);
  for (int64_t i = 0; i < l.num_heads * d / q; ++i) body(i * q, q, q_weight, i);
  for (int64_t i = 0; i < l.num_kv_heads * d / k; ++i)
    body(l.num_heads * d + i * k, k, k_weight, l.num_heads + i);
}

// y may be qkv. rstd [T, q + k heads] is written when norms are on.
void RotateForward(const at::Tensor& qkv, const at::Tensor& y, const HeadLayout& l,
                   const HeadNorm& norm, const at::Tensor& positions, const at::Tensor& cos,
                   const at::Tensor& sin, at::Tensor* rstd) {
  const int64_t half = cos.size(1), heads = l.num_heads + l.num_kv_heads;
  DispatchFloat(qkv.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto& kernels = GetKernels().typed<T>();
    const int64_t width = l.width(), *position = Data<int64_t>(positions);
    const float *cosines = Data<float>(cos), *sines = Data<float>(sin);
    float* r = rstd ? Data<float>(*rstd) : nullptr;
    const T* data = Data<T>(qkv);
    T* out = Data<T>(y);
    const bool normed = norm.q_weight_D.defined();
    const int64_t kept = normed ? heads * l.head_dim : 0;  // what the norms write
    ParallelFor(qkv.size(0), GrainFor(4 * heads * l.head_dim), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* from = data + t * width;
        T* row = out + t * width;
        PrefetchRow(from + width, width);
        if (from != row) std::copy_n(from + kept, width - kept, row + kept);
        if (normed)
          ForNormed(l, norm, [&](int64_t at, int64_t n, const float* w, int64_t index) {
            const float inverse =
                kernels.rms_norm_head(from + at, w, static_cast<float>(norm.eps), n, row + at);
            if (r) r[t * heads + index] = inverse;
          });
        const int64_t p = position[t] * half;
        for (int64_t h = 0; h < heads; ++h)
          kernels.rope(row + h * l.head_dim, cosines + p, sines + p, 1.0f, 2 * half);
      }
    });
  });
}

struct RotateFunction : torch::autograd::Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv,
                            const at::Tensor& positions, const at::Tensor& cos,
                            const at::Tensor& sin, int64_t layout_ptr, int64_t norm_ptr) {
    const auto& layout = *reinterpret_cast<const HeadLayout*>(layout_ptr);
    const auto& norm = *reinterpret_cast<const HeadNorm*>(norm_ptr);
    at::Tensor y = at::empty_like(qkv), rstd;
    const bool normed = norm.q_weight_D.defined();
    if (normed)
      rstd = at::empty({qkv.size(0), layout.num_heads + layout.num_kv_heads},
                       qkv.options().dtype(at::kFloat));
    RotateForward(qkv, y, layout, norm, positions, cos, sin, normed ? &rstd : nullptr);
    ctx->save_for_backward(
        {normed ? qkv : at::Tensor(), positions, cos, sin, rstd, norm.q_weight_D, norm.k_weight_D});
    ctx->saved_data["heads"] = layout.num_heads;
    ctx->saved_data["kv_heads"] = layout.num_kv_heads;
    ctx->saved_data["head_dim"] = layout.head_dim;
    ctx->saved_data["q"] = reinterpret_cast<int64_t>(norm.q_parameter);
    ctx->saved_data["k"] = reinterpret_cast<int64_t>(norm.k_parameter);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &positions = saved[1], &cos = saved[2], &sin = saved[3],
                     &rstd = saved[4];
    const HeadLayout l{ctx->saved_data["heads"].toInt(), ctx->saved_data["kv_heads"].toInt(),
                       ctx->saved_data["head_dim"].toInt()};
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dx = at::empty_like(dy);
    const int64_t d = l.head_dim, half = cos.size(1), heads = l.num_heads + l.num_kv_heads;
    DispatchFloat(dx.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const auto& kernels = GetKernels().typed<T>();
      const int64_t* position = Data<int64_t>(positions);
      const float *cosines = Data<float>(cos), *sines = Data<float>(sin);
      const T* g = Data<T>(dy);
      T* out = Data<T>(dx);
      const auto rotate_back = [&](int64_t t) {
        T* row = out + t * l.width();
        std::copy_n(g + t * l.width(), l.width(), row);
        PrefetchRow(g + (t + 1) * l.width(), l.width());
        const int64_t p = position[t] * half;
        for (int64_t h = 0; h < heads; ++h)
          kernels.rope(row + h * d, cosines + p, sines + p, -1.0f, 2 * half);
      };
      if (!rstd.defined()) {
        ParallelFor(dy.size(0), GrainFor(2 * l.width()), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) rotate_back(t);
        });
        return;
      }
      const float* r = Data<float>(rstd);
      const T* in = Data<T>(x);
      const float *q_weight = Data<float>(saved[5]), *k_weight = Data<float>(saved[6]);
      const int64_t q_width = saved[5].numel(), k_width = saved[6].numel();
      const auto grad = [&](const char* name) {
        return reinterpret_cast<const Parameter*>(ctx->saved_data[name].toInt())->grad;
      };
      const auto norms = [&](int64_t t, int64_t first, int64_t count, const float* weight,
                             int64_t n, float* dw) {
        for (int64_t i = 0; i < count * d / n; ++i) {
          const int64_t at = t * l.width() + first * d + i * n;
          kernels.rms_norm_head_backward(in + at, weight, out + at, r[t * heads + first + i], n,
                                         out + at, dw);
        }
      };
      SumOverRows(dy.size(0), {{q_width, grad("q")}, {k_width, grad("k")}},
                  [&](int64_t begin, int64_t end, float* dw) {
                    for (int64_t t = begin; t < end; ++t) {
                      rotate_back(t);
                      PrefetchRow(in + (t + 1) * l.width(), heads * d);
                      norms(t, 0, l.num_heads, q_weight, q_width, dw);
                      norms(t, l.num_heads, l.num_kv_heads, k_weight, k_width, dw + q_width);
                    }
                  });
    });
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x_TH, const at::Tensor& weight_H, Parameter* parameter,
                   double eps, at::ScalarType dtype, at::Tensor* residual_TH) {
  TORCH_CHECK(x_TH.dim() == 2 && x_TH.scalar_type() == at::kFloat && x_TH.is_contiguous() &&
                  weight_H.numel() == x_TH.size(1),
              "rms_norm: expected a contiguous float32 [T, ", weight_H.numel(), "], got ",
              x_TH.sizes());
  if (residual_TH) *residual_TH = x_TH;
  if (!x_TH.is_cpu()) return composite::RmsNorm(x_TH, weight_H, parameter, eps, dtype);
  if (!Recording(x_TH)) return NormForward(x_TH, weight_H, eps, dtype, nullptr);
  const variable_list results = NormFunction::apply(
      x_TH, weight_H, reinterpret_cast<int64_t>(parameter), eps, dtype, residual_TH != nullptr);
  if (residual_TH) *residual_TH = results[1];
  return results[0];
}

at::Tensor RotateHeads(const at::Tensor& qkv_TX, const HeadLayout& layout, const HeadNorm& norm,
                       const at::Tensor& positions_T, const at::Tensor& cos_PD,
                       const at::Tensor& sin_PD) {
  TORCH_CHECK(qkv_TX.dim() == 2 && qkv_TX.size(1) == layout.width() && qkv_TX.is_contiguous(),
              "rotate_heads: expected a contiguous [T, ", layout.width(), "], got ",
              qkv_TX.sizes());
  TORCH_CHECK(positions_T.scalar_type() == at::kLong && positions_T.size(0) == qkv_TX.size(0),
              "rotate_heads: one int64 position per token");
  if (!qkv_TX.is_cpu())
    return composite::RotateHeads(qkv_TX, layout, norm, positions_T, cos_PD, sin_PD);
  if (!Recording(qkv_TX)) {
    RotateForward(qkv_TX, qkv_TX, layout, norm, positions_T, cos_PD, sin_PD, nullptr);
    return qkv_TX;
  }
  return RotateFunction::apply(qkv_TX, positions_T, cos_PD, sin_PD,
                               reinterpret_cast<int64_t>(&layout),
                               reinterpret_cast<int64_t>(&norm));
}

}  // namespace rft::ops
