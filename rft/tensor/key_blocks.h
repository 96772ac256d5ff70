// Layouts of keys and values that the attention kernels read: blocks of 16 tokens, K as [head_dim][16], V as [16][dp]
// (dp = head_dim rounded up to 16). bf16 keeps two neighbours of what is summed over together, for the CPU's dot products of
// pairs: K as [head_dim / 2][16][2], V as [8][dp][2]. Torch-free.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "rft/tensor/kernels.h"

namespace rft {

// Elements of a block.
template <typename T>
[[gnu::always_inline]] constexpr int64_t KeyBlockElements(int64_t head_dim) {
  return RoundUp(head_dim, kSumStep<T>) * kBlockKeys;
}
[[gnu::always_inline]] constexpr int64_t ValueBlockElements(int64_t head_dim) {
  return RoundUp(head_dim, kBlockKeys) * kBlockKeys;
}

template <typename T, typename S>
T ConvertTo(S x) {
  if constexpr (std::is_same_v<S, T>)
    return x;
  else
    return FromFloat<T>(ToFloat(x));
}

// Writes one token's key (head_dim values) into slot `slot` of a K block.
template <typename S, typename T>
void StoreKey(const S* key, int64_t head_dim, int64_t slot, T* block) {
  constexpr int64_t kStep = kSumStep<T>;
  if constexpr (kStep == 2 && std::is_same_v<S, T>) {  // decode stores one key per head and layer
    for (int64_t d = 0; d + 1 < head_dim; d += 2)
      std::memcpy(block + d * kBlockKeys + slot * 2, key + d, 2 * sizeof(T));
    if (head_dim % 2 == 0) return;
    key += head_dim - 1;
    block += (head_dim - 1) * kBlockKeys;
    head_dim = 1;
  }
  for (int64_t d = 0; d < RoundUp(head_dim, kStep); ++d)
    block[d / kStep * kStep * kBlockKeys + slot * kStep + d % kStep] =
        d < head_dim ? ConvertTo<T>(key[d]) : T{};
}

// Writes one token's value into slot `slot` of a V block; the padding is zeroed, and so is the slot that shares a step of the
// sum until it is written itself (in bf16; slots of a block are written in order).
template <typename S, typename T>
void StoreValue(const S* value, int64_t head_dim, int64_t slot, T* block) {
  constexpr int64_t kStep = kSumStep<T>;
  const int64_t dp = RoundUp(head_dim, kBlockKeys), place = slot % kStep;
  T* row = block + (slot - place) * dp;
  for (int64_t d = 0; d < head_dim; ++d) {
    T* step = row + d * kStep;
    step[place] = ConvertTo<T>(value[d]);
    if (kStep == 2 && place == 0) step[1] = T{};
  }
  if (place == 0) std::fill(row + kStep * head_dim, row + kStep * dp, T{});
}

// Floats that `attend` needs for vectors of at most `longest` visible keys: per vector of a tile the query, the output, the scores,
// and the probabilities in the compute dtype.
inline int64_t AttendScratch(int64_t longest, int64_t head_dim) {
  return 8 * (2 * RoundUp(longest, kBlockKeys) + 2 * RoundUp(head_dim, kBlockKeys));
}

}  // namespace rft
