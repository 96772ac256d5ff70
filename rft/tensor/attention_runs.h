// What the forward and the backward of packed attention share: where a run's keys lie, and scratch memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "rft/tensor/attention.h"
#include "rft/tensor/kernels.h"

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

// Uninitialised memory.
template <typename T>
class Buffer {
 public:
  T* Allocate(int64_t n) {
    data_ = std::make_unique_for_overwrite<T[]>(n);
    return get();
  }
  T* get() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
};

}  // namespace rft
