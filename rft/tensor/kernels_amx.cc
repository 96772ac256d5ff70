// The kernels of avx512bf16 with bf16 products in matrix tiles (Intel AMX); the flags are in cmake/RftRooms.cmake.
#define RFT_ISA isa_amx
#include <sys/syscall.h>
#include <unistd.h>

#include "rft/tensor/gemm_tiles_impl.h"
#include "rft/tensor/kernels.h"

namespace rft {

const Kernels& Kernels_avx512bf16();

namespace isa_amx {
namespace {

// Not the compiler's intrinsics: GCC 12's don't say that they read and write memory.
struct AmxTiles {
  static void Configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
  template <int T>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(T));
  }
  template <int T>
  static void Load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static void Store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  static void MultiplyAdd() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
  static void Release() { asm volatile("tilerelease"); }
};

void PanelFloat(const Bf16* a, int64_t lda, const Bf16* panel, int64_t k, int64_t rows, int64_t n,
                float* c, int64_t ldc, bool add) {
  GemmPanelTiles<AmxTiles>(a, lda, panel, k, rows, n, c, ldc, add);
}
void PanelSame(const Bf16* a, int64_t lda, const Bf16* panel, int64_t k, int64_t rows, int64_t n,
               Bf16* c, int64_t ldc) {
  GemmPanelTiles<AmxTiles>(a, lda, panel, k, rows, n, c, ldc, false);
}

// Linux gives a process the tile registers when it asks for them (its Documentation/arch/x86/xstate.rst).
bool AskForTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace
}  // namespace isa_amx

// Null where the system keeps the tiles to itself. Only for a CPU that has them.
const Kernels* Kernels_amx() {
  if (!isa_amx::AskForTiles()) return nullptr;
  static const Kernels table = [] {
    Kernels k = Kernels_avx512bf16();
    k.name = "amx";
    k.bf16.gemm_panel_float = isa_amx::PanelFloat;
    k.bf16.gemm_panel = isa_amx::PanelSame;
    return k;
  }();
  return &table;
}

}  // namespace rft
