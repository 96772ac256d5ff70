// The backward of packed attention.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "rft/tensor/attention.h"

namespace rft {

// What the forward left for it. [T, ...] of the packed stream, T float or Bf16.
template <typename T>
struct AttentionSaved {
  const T *qkv, *out;      // [T, width], [T, heads * head_dim]
  const float *max, *sum;  // [T, heads]: of the scaled scores, of exp(score - max)
  const SelectedKeys* selected;
};

// Gradients of one kv head of the runs [range.first, range.second), which share a prefix, into their rows of dqkv
// [T, width] (overwritten). Float sums in a fixed order: the same bits on every thread. Thread-safe for different kv heads
// or groups.
template <typename T>
void AttendGroupBackward(const AttentionSaved<T>& saved, const T* dout,
                         const std::vector<PackedSequence>& sequences,
                         std::pair<size_t, size_t> range, int64_t kv_head, const HeadLayout& layout,
                         float scale, T* dqkv);

}  // namespace rft
