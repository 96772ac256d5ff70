#include "rft/tensor/kernels.h"

#include <cstdlib>
#include <string_view>

namespace rft {

#if defined(__x86_64__)
const Kernels& Kernels_avx512bf16();
const Kernels& Kernels_avx512();
const Kernels& Kernels_avx2();
#endif
const Kernels& Kernels_portable();

const Kernels* const* RunnableKernels(int* count) {
  static const Kernels* tables[4];
  static const int num_tables = [] {
    int n = 0;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (avx512 && __builtin_cpu_supports("avx512bf16")) tables[n++] = &Kernels_avx512bf16();
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
