#include "rft/tensor/kernels.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rft {

#if defined(__x86_64__)
const Kernels& Kernels_amx();
const Kernels& Kernels_avx512bf16();
const Kernels& Kernels_avx512();
const Kernels& Kernels_avx2();
#endif
const Kernels& Kernels_portable();

#if defined(__x86_64__)
namespace {

// Both tables multiply small whole numbers, whose sums have no rounding. A table that is wrong on this CPU is never chosen: the
// tiles' kernels were written where no CPU had them.
bool MultiplyAlike(const Kernels& a, const Kernels& b) {
  constexpr int64_t kRows = 35, kK = 70, kColumns = 45;
  Bf16 x[kRows * kK], w[kColumns * kK], panel[PanelElements<Bf16>(kK)];
  for (int64_t i = 0; i < kRows * kK; ++i) x[i] = FromFloat<Bf16>(static_cast<float>(i % 7 - 3));
  for (int64_t i = 0; i < kColumns * kK; ++i)
    w[i] = FromFloat<Bf16>(static_cast<float>(i % 11 - 5));
  a.bf16.pack_panel(w, 1, kK, kK, kColumns, panel);
  float c[2][kRows * kColumns];
  const Kernels* const tables[2] = {&a, &b};
  for (int t = 0; t < 2; ++t)
    tables[t]->bf16.gemm_panel_float(x, kK, panel, kK, kRows, kColumns, c[t], kColumns, false);
  return std::memcmp(c[0], c[1], sizeof c[0]) == 0;
}

// Linux gives a process the tile registers when it asks for them (its Documentation/arch/x86/xstate.rst).
bool AskForTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace
#endif

const Kernels* const* RunnableKernels(int* count) {
  static const Kernels* tables[5];
  static const int num_tables = [] {
    int n = 0;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    if (bf16 && AskForTiles() && MultiplyAlike(Kernels_amx(), Kernels_avx512bf16()))
      tables[n++] = &Kernels_amx();
    if (bf16) tables[n++] = &Kernels_avx512bf16();
    if (avx512) tables[n++] = &Kernels_avx512();
    if (avx2) tables[n++] = &Kernels_avx2();
#endif
    tables[n++] = &Kernels_portable();
    return n;
  }();
  *count = num_tables;
  return tables;
}

const Kernels& GetKernels() {
  static const Kernels* chosen = [] {
    int count = 0;
    const Kernels* const* tables = RunnableKernels(&count);
    if (const char* wanted = std::getenv("RFT_KERNELS"))
      for (int i = 0; i < count; ++i)
        if (std::string_view(tables[i]->name) == wanted) return tables[i];
    return tables[0];
  }();
  return *chosen;
}

}  // namespace rft
