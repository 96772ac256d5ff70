// Layouts of keys and values that the attention kernels read: blocks of 16 tokens, K as [head_dim][16], V as [16][dp]
// (dp = head_dim rounded up to 16). Torch-free.
#pragma once

#include <cstdint>
#include <cstring>

#include "rft/tensor/kernels.h"

namespace rft {

// Writes one token's key (head_dim values) into slot `slot` of a K block.
template <typename S, typename T>
void StoreKey(const S* key, int64_t head_dim, int64_t slot, T* block) {
  for (int64_t d = 0; d < head_dim; ++d)
    block[d * kBlockKeys + slot] = FromFloat<T>(ToFloat(key[d]));
}

// Writes one token's value into slot `slot` of a V block; the padding is zeroed.
template <typename S, typename T>
void StoreValue(const S* value, int64_t head_dim, int64_t slot, T* block) {
  const int64_t dp = RoundUp(head_dim, kBlockKeys);
  T* row = block + slot * dp;
  for (int64_t d = 0; d < head_dim; ++d) row[d] = FromFloat<T>(ToFloat(value[d]));
  for (int64_t d = head_dim; d < dp; ++d) row[d] = FromFloat<T>(0.0f);
}

// Floats that `attend` needs for vectors of at most `longest` visible keys.
inline int64_t AttendScratch(int64_t longest, int64_t head_dim) {
  return 8 * (RoundUp(longest, kBlockKeys) + RoundUp(head_dim, kBlockKeys));
}

}  // namespace rft
