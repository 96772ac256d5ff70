// The kernels compiled for avx512bf16; the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_avx512bf16
#include "rft/tensor/kernels_impl.h"

namespace rft {
const Kernels& Kernels_avx512bf16() {
  static const Kernels table = isa_avx512bf16::MakeKernels("avx512bf16");
  return table;
}
}  // namespace rft
