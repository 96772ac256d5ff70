// From a tensor's dtype to the kernels' element type, and small helpers for raw access.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "rft/tensor/bf16.h"

namespace rft {

template <typename T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<float>{}) or f(TypeTag<Bf16>{}).
template <typename F>
auto DispatchFloat(at::ScalarType dtype, F&& f) {
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16,
              "compute dtype must be float32 or bfloat16, not ", dtype);
  if (dtype == at::kBFloat16) return f(TypeTag<Bf16>{});
  return f(TypeTag<float>{});
}

template <typename T>
T* Data(const at::Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

}  // namespace rft
