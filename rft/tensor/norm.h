// RMSNorm of the residual stream without autograd, for the operations that are built on it.
#pragma once

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft::ops {

// float32 [T, H] -> `dtype`; `rstd`, if not null, becomes 1 / rms, float32 [T].
at::Tensor NormForward(const at::Tensor& x_TH, const at::Tensor& weight_H, double eps,
                       at::ScalarType dtype, at::Tensor* rstd);
// dx, float32, plus `dresidual_TH` if that is defined; dw is added to the parameter's gradient, if it has one.
at::Tensor NormBackward(const at::Tensor& x_TH, const at::Tensor& weight_H,
                        const at::Tensor& rstd_T, const at::Tensor& dy_TH,
                        const Parameter& parameter, const at::Tensor& dresidual_TH = {});

}  // namespace rft::ops
