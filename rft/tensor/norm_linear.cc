// NormLinear of ops.h.
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/linear_backward.h"
#include "rft/tensor/norm.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/recording.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NormLinearFunction : torch::autograd::Function<NormLinearFunction> {
  // y, and x if `wants_residual`.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& norm,
                               int64_t parameter, double eps, int64_t weight, bool wants_residual) {
    const auto& w = *reinterpret_cast<const Weight*>(weight);
    at::Tensor rstd;
    const at::Tensor y = NormForward(x, norm, eps, w.compute_dtype(), &rstd);
    ctx->save_for_backward({x, norm, rstd});
    ctx->saved_data["parameter"] = parameter;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["weight"] = weight;
    const at::Tensor product = Linear(y, w);
    return wants_residual ? variable_list{product, x.detach()} : variable_list{product};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& w = *reinterpret_cast<const Weight*>(ctx->saved_data["weight"].toInt());
    const auto& parameter =
        *reinterpret_cast<const Parameter*>(ctx->saved_data["parameter"].toInt());
    const at::Tensor dy = grads[0].contiguous();
    if (NeedsWeightGradient(w))
      AccumulateWeightGradient(NormForward(saved[0], saved[1], ctx->saved_data["eps"].toDouble(),
                                           w.compute_dtype(), nullptr),
                               dy, w);
    const at::Tensor dnorm = InputGradient(dy, PackTransposed(w, dy.scalar_type()), w);
    return NormGradients(saved, dnorm, grads, parameter);
  }
};

}  // namespace

at::Tensor NormLinear(const at::Tensor& x_TH, const at::Tensor& norm_H, Parameter* parameter,
                      double eps, const Weight& weight, at::Tensor* residual_TH) {
  if (!Recording(x_TH) || !x_TH.is_cpu())
    return Linear(RmsNorm(x_TH, norm_H, parameter, eps, weight.compute_dtype(), residual_TH),
                  weight);
  TORCH_CHECK(x_TH.dim() == 2 && x_TH.scalar_type() == at::kFloat && x_TH.is_contiguous() &&
                  x_TH.size(1) == weight.k && norm_H.numel() == weight.k,
              "norm_linear: expected a contiguous float32 [T, ", weight.k, "], got ", x_TH.sizes());
  const variable_list results =
      NormLinearFunction::apply(x_TH, norm_H, reinterpret_cast<int64_t>(parameter), eps,
                                reinterpret_cast<int64_t>(&weight), residual_TH != nullptr);
  if (residual_TH) *residual_TH = results[1];
  return results[0];
}

}  // namespace rft::ops
