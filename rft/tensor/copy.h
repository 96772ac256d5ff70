// Copies that all threads make: torch's own operators run on one thread while a model trains (SerialOpenMp).
#pragma once

#include <ATen/core/Tensor.h>

namespace rft {

// x rounded or widened to `dtype`; x itself where it has it. Both float32 or bfloat16, contiguous.
at::Tensor Convert(const at::Tensor& x, at::ScalarType dtype);

// Writes x over `to`, of the same shape and of any dtype and device; from the CPU in the dtype it will have there. x: contiguous.
void CopyTo(const at::Tensor& to, const at::Tensor& x);

}  // namespace rft
