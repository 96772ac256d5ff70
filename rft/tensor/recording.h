// Whether an operation has to leave a node for the backward, or is a plain function call (rft/tensor/ops.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

namespace rft::ops {

inline bool Recording(const at::Tensor& x) {
  return at::GradMode::is_enabled() && x.requires_grad();
}

}  // namespace rft::ops
