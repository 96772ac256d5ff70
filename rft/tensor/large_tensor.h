// Tensors of a model's size: arenas of parameters and optimizer state, packed weights, the state cache.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace rft {

// A 1-D tensor of zeros. On the CPU it takes memory only where it has been written, in huge pages where the kernel grants them:
// streaming weights and keys through 4 KiB pages costs a table walk every few lines, and zeroing them one by one costs a
// load its time. Freed with the last reference. Throws c10::Error (out of memory) if the address space is refused. On another
// device: plain zeros.
at::Tensor LargeTensor(int64_t num_elements, at::ScalarType dtype, at::Device device = at::kCPU);

}  // namespace rft
