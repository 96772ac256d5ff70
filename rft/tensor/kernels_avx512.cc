// The kernels compiled for avx512; the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_avx512
#include "rft/tensor/kernels_impl.h"

namespace rft {
const Kernels& Kernels_avx512() {
  static const Kernels table = isa_avx512::MakeKernels("avx512");
  return table;
}
}  // namespace rft
