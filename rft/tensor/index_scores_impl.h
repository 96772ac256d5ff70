// Scores of a lightning indexer over blocks of 16 keys (key_selection.h). Included by kernels_impl.h. A score is one chain: over the
// head dimension for each head, then over the heads in order.
#pragma once

#include "rft/tensor/attention_impl.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/simd.h"
#include "rft/tensor/sum_step_impl.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

template <int R, typename T>
inline Vec AddHeadScores(const T* q, const float* weights, int64_t dim, const T* k, Vec sum) {
  Vec acc[R];
  for (int r = 0; r < R; ++r) acc[r] = Zero();
  for (int64_t d = 0; d < dim; d += kSumStep<T>) {
    const auto kd = LoadStep(k + d * kBlockKeys);
    for (int r = 0; r < R; ++r) acc[r] = AddStep(SetStep(q + r * dim + d), kd, acc[r]);
  }
  for (int r = 0; r < R; ++r) sum = Fma(Set1(weights[r]), Max(acc[r], Zero()), sum);
  return sum;
}

template <typename T>
void IndexScores(const T* q, const float* weights, int64_t heads, int64_t dim,
                 const T* const* k_blocks, int64_t num_blocks, float* scores) {
  constexpr int kTogether = kManyRegisters ? 8 : 4;
  for (int64_t b = 0; b < num_blocks; ++b) {
    Vec sum = Zero();
    int64_t h = 0;
    for (; h + kTogether <= heads; h += kTogether)
      sum = AddHeadScores<kTogether>(q + h * dim, weights + h, dim, k_blocks[b], sum);
    for (; h < heads; ++h) sum = AddHeadScores<1>(q + h * dim, weights + h, dim, k_blocks[b], sum);
    Store(scores + b * kBlockKeys, sum);
  }
}

}  // namespace
}  // namespace rft::RFT_ISA
