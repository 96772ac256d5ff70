// Rows that are read soon, asked of memory in time: where each lies far from the last, or begins a page, the CPU doesn't foresee
// it. Addresses are only asked for: past the last row that is harmless. Torch-free.
#pragma once

#include <cstdint>

namespace rft {

// Lines of a row's `n` numbers into the first-level cache. Static: kernels of each ISA have their own.
template <typename T>
static inline void PrefetchRow(const T* row, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / static_cast<int64_t>(sizeof(T)))
    __builtin_prefetch(row + i, 0, 3);
}

}  // namespace rft
