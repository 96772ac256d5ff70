// What the forward and the backward of packed attention share: where a run's keys lie, how they come into blocks, and scratch
// memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "rft/tensor/attention.h"
#include "rft/tensor/key_blocks.h"
#include "rft/tensor/prefetch.h"

namespace rft {

// Row of the packed stream that holds logical key `j` of a run.
inline int64_t TokenOf(const PackedSequence& s, int64_t j) {
  return j < s.prefix_count ? s.prefix_begin + j : s.begin + (j - s.prefix_count);
}

// Columns of the fused projection.
struct Columns {
  int64_t width, d, dp, heads_per_kv, k0, v0;
  explicit Columns(const HeadLayout& l)
      : width(l.width()),
        d(l.head_dim),
        dp(RoundUp(l.head_dim, kBlockKeys)),
        heads_per_kv(l.num_heads / l.num_kv_heads),
        k0(l.num_heads * l.head_dim),
        v0((l.num_heads + l.num_kv_heads) * l.head_dim) {}
  int64_t q(int64_t kv_head, int64_t h) const { return (kv_head * heads_per_kv + h) * d; }
  int64_t k(int64_t kv_head) const { return k0 + kv_head * d; }
  int64_t v(int64_t kv_head) const { return v0 + kv_head * d; }
};

// Tokens lie a whole projection apart: so many are asked of memory in advance.
inline constexpr int64_t kRowsAhead = 4;

// A column of tokens [from, to) of a run into K blocks; the first block is the one that holds `from`. Whole blocks of neighbouring
// tokens are transposed at once.
template <typename T>
void GatherKeyBlocks(const T* column, const PackedSequence& s, const Columns& c, int64_t from,
                     int64_t to, T* blocks) {
  constexpr int64_t kStep = kSumStep<T>;
  using Words = std::conditional_t<kStep == 1, T, float>;  // a step of bf16 is moved as one float
  const auto transpose = GetKernels().typed<Words>().transpose;
  const int64_t first = from / kBlockKeys;
  for (int64_t j = from; j < to;) {
    const T* key = column + TokenOf(s, j) * c.width;
    T* block = blocks + (j / kBlockKeys - first) * KeyBlockElements<T>(c.d);
    const bool whole = j % kBlockKeys == 0 && j + kBlockKeys <= to && c.d % kStep == 0 &&
                       c.width % kStep == 0 &&
                       TokenOf(s, j + kBlockKeys - 1) == TokenOf(s, j) + kBlockKeys - 1;
    if (whole)
      transpose(reinterpret_cast<const Words*>(key), kBlockKeys, c.d / kStep, c.width / kStep,
                reinterpret_cast<Words*>(block), kBlockKeys);
    else
      StoreKey(key, c.d, j % kBlockKeys, block);
    j += whole ? kBlockKeys : 1;
  }
}

// The same into V blocks; whole steps of the sum over keys at once.
template <typename T>
void GatherValueBlocks(const T* column, const PackedSequence& s, const Columns& c, int64_t from,
                       int64_t to, T* blocks) {
  constexpr int64_t kStep = kSumStep<T>;
  const int64_t first = from / kBlockKeys;
  for (int64_t j = from; j < to;) {
    const T* value = column + TokenOf(s, j) * c.width;
    T* block = blocks + (j / kBlockKeys - first) * ValueBlockElements(c.d);
    PrefetchRow(value + kBlockKeys * c.width, c.d);
    if (kStep == 2 && j % 2 == 0 && j + 1 < to) {
      const T* next = column + TokenOf(s, j + 1) * c.width;
      T* pairs = block + j % kBlockKeys * c.dp;
      for (int64_t d = 0; d < c.d; ++d) {
        pairs[2 * d] = value[d];
        pairs[2 * d + 1] = next[d];
      }
      std::fill(pairs + 2 * c.d, pairs + 2 * c.dp, T{});
      j += 2;
    } else {
      StoreValue(value, c.d, j % kBlockKeys, block);
      ++j;
    }
  }
}

template <typename T>
class Buffer {
 public:
  T* Allocate(int64_t n) {  // uninitialised
    data_ = std::make_unique_for_overwrite<T[]>(n);
    return get();
  }
  void AllocateZeros(int64_t n) { data_ = std::make_unique<T[]>(n); }
  T* get() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
};

}  // namespace rft
