// RMSNorm of the residual stream without autograd, for the operations that are built on it.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rft/tensor/weight.h"

namespace rft::ops {

// float32 [T, H] -> `dtype`; `rstd`, if not null, becomes 1 / rms, float32 [T].
at::Tensor NormForward(const at::Tensor& x_TH, const at::Tensor& weight_H, double eps,
                       at::ScalarType dtype, at::Tensor* rstd);
// dx, float32, plus `dresidual_TH` if that is defined; dw is added to the parameter's gradient, if it has one.
at::Tensor NormBackward(const at::Tensor& x_TH, const at::Tensor& weight_H,
                        const at::Tensor& rstd_T, const at::Tensor& dy_TH,
                        const Parameter& parameter, const at::Tensor& dresidual_TH = {});

// The same as what an autograd node returns whose inputs are x and five others without a gradient. saved: x, weight, rstd; grads:
// the node's, of which the second, if there is one, is the residual's.
torch::autograd::variable_list NormGradients(const torch::autograd::variable_list& saved,
                                             const at::Tensor& dy_TH,
                                             const torch::autograd::variable_list& grads,
                                             const Parameter& parameter);

}  // namespace rft::ops
