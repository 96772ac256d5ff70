// The kernels compiled for avx2; the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_avx2
#include "rft/tensor/kernels_impl.h"

namespace rft {
const Kernels& Kernels_avx2() {
  static const Kernels table = isa_avx2::MakeKernels("avx2");
  return table;
}
}  // namespace rft
