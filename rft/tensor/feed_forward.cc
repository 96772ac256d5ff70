// SwiGlu and SwiGluLinearAdd of ops.h.
#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/composite.h"
#include "rft/tensor/copy.h"
#include "rft/tensor/cost_timer.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/linear_backward.h"
#include "rft/tensor/ops.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/recording.h"

namespace rft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor Activation(const at::Tensor& gate_up) {
  const CostTimer timer(Cost::kRowwise);
  const int64_t t = gate_up.size(0), i = gate_up.size(1) / 2;
  at::Tensor y = at::empty({t, i}, gate_up.options());
  DispatchFloat(gate_up.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto kernel = GetKernels().typed<T>().swiglu;
    const T* in = Data<T>(gate_up);
    T* out = Data<T>(y);
    ParallelFor(t, GrainFor(8 * i), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        kernel(in + r * 2 * i, in + r * 2 * i + i, i, out + r * i);
    });
  });
  return y;
}

at::Tensor ActivationBackward(const at::Tensor& gate_up, const at::Tensor& dy) {
  at::Tensor dgate_up = at::empty_like(gate_up);
  const int64_t t = gate_up.size(0), i = gate_up.size(1) / 2;
  DispatchFloat(gate_up.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto kernel = GetKernels().typed<T>().swiglu_backward;
    const T *in = Data<T>(gate_up), *g = Data<T>(dy);
    T* gradient = Data<T>(dgate_up);
    ParallelFor(t, GrainFor(8 * i), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = in + r * 2 * i;
        T* out = gradient + r * 2 * i;
        kernel(row, row + i, g + r * i, i, out, out + i);
      }
    });
  });
  return dgate_up;
}

struct SwiGluFunction : torch::autograd::Function<SwiGluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    ctx->save_for_backward({gate_up});
    return Activation(gate_up);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {ActivationBackward(ctx->get_saved_variables()[0], grads[0].contiguous())};
  }
};

struct SwiGluLinearAddFunction : torch::autograd::Function<SwiGluLinearAddFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up,
                            const at::Tensor& residual, int64_t weight) {
    ctx->save_for_backward({gate_up});
    ctx->saved_data["weight"] = weight;
    const auto& w = *reinterpret_cast<const Weight*>(weight);
    const at::Tensor activation = Activation(gate_up);
    at::Tensor y = at::empty_like(residual);
    DispatchFloat(activation.scalar_type(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      MultiplyToFloat(Data<T>(activation), activation.size(0), w, Data<float>(y), true,
                      Data<float>(residual));
    });
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& w = *reinterpret_cast<const Weight*>(ctx->saved_data["weight"].toInt());
    const at::Tensor gate_up = ctx->get_saved_variables()[0];
    const at::Tensor dy = Convert(grads[0].contiguous(), gate_up.scalar_type());
    if (NeedsWeightGradient(w)) AccumulateWeightGradient(Activation(gate_up), dy, w);
    const at::Tensor dactivation = InputGradient(dy, PackTransposed(w, dy.scalar_type()), w);
    return {ActivationBackward(gate_up, dactivation), grads[0], at::Tensor()};
  }
};

}  // namespace

at::Tensor SwiGlu(const at::Tensor& gate_up_T2I) {
  TORCH_CHECK(gate_up_T2I.dim() == 2 && gate_up_T2I.size(1) % 2 == 0 && gate_up_T2I.is_contiguous(),
              "swiglu: expected a contiguous [T, 2 I], got ", gate_up_T2I.sizes());
  if (!gate_up_T2I.is_cpu()) return composite::SwiGlu(gate_up_T2I);
  return Recording(gate_up_T2I) ? SwiGluFunction::apply(gate_up_T2I) : Activation(gate_up_T2I);
}

at::Tensor SwiGluLinearAdd(const at::Tensor& gate_up_T2I, const Weight& weight,
                           const at::Tensor& residual_TN) {
  if (!Recording(gate_up_T2I) || !gate_up_T2I.is_cpu())
    return LinearAdd(SwiGlu(gate_up_T2I), weight, residual_TN);
  TORCH_CHECK(
      gate_up_T2I.dim() == 2 && gate_up_T2I.size(1) == 2 * weight.k && gate_up_T2I.is_contiguous(),
      "swiglu: expected a contiguous [T, ", 2 * weight.k, "], got ", gate_up_T2I.sizes());
  return SwiGluLinearAddFunction::apply(gate_up_T2I, residual_TN,
                                        reinterpret_cast<int64_t>(&weight));
}

}  // namespace rft::ops
