// The kernels of avx512bf16 with bf16 products in matrix tiles (Intel AMX); the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_amx
#include "rft/tensor/gemm_tiles_impl.h"
#include "rft/tensor/kernels.h"

namespace rft {

const Kernels& Kernels_avx512bf16();

const Kernels& Kernels_amx() {
  static const Kernels table = [] {
    Kernels k = Kernels_avx512bf16();
    k.name = "amx";
    k.bf16.gemm_panel_float = isa_amx::GemmPanelTiles<float>;
    k.bf16.gemm_panel = [](const Bf16* a, int64_t lda, const Bf16* panel, int64_t depth,
                           int64_t rows, int64_t n, Bf16* c, int64_t ldc) {
      isa_amx::GemmPanelTiles(a, lda, panel, depth, rows, n, c, ldc, false);
    };
    return k;
  }();
  return table;
}

}  // namespace rft
