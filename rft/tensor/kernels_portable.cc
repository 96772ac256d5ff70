// The kernels compiled for portable; the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_portable
#include "rft/tensor/kernels_impl.h"

namespace rft {
const Kernels& Kernels_portable() {
  static const Kernels table = isa_portable::MakeKernels("portable");
  return table;
}
}  // namespace rft
