// Products of bf16 rows with int8 panels. Included by kernels_impl.h inside one ISA's translation unit.
//
// Every int8 is a bf16, so the chain of an output element is the one of gemm_impl.h over the widened panel, and its sum is
// multiplied by the column's scale at the end. Few rows widen the panel in registers (a decode step reads half the bytes of
// bf16); many rows widen blocks of it that stay in the L1 cache. Both give the same bits.
#pragma once

#include "rft/tensor/gemm_impl.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

inline constexpr int kVecs =
    kPanelWidth / kLanes;  // the last panel's columns that aren't there are computed, too

template <int MR, typename C>
inline void EmitScaled(const Vec (&acc)[MR][kVecs], const float* scales, int64_t n, C* c,
                       int64_t ldc, bool add) {
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < kVecs; ++v)
      Emit(c + r * ldc + v * kLanes, Mul(acc[r][v], Load(scales + v * kLanes)), n - v * kLanes,
           add);
}

// More rows than one tile has: blocks of the panel are widened once for all of them. The sums wait in `sums` between blocks.
inline constexpr int64_t kInt8Rows = 128;
template <typename C>
void ManyRowsInt8(const Bf16* a, int64_t lda, const int8_t* panel, const float* scales, int64_t k,
                  int64_t rows, int64_t n, C* c, int64_t ldc, bool add) {
  constexpr int64_t kBlock = 256;  // of k
  alignas(64) Bf16 block[kBlock * kPanelWidth];
  alignas(64) float sums[kInt8Rows * kPanelWidth];
  for (int64_t k0 = 0; k0 < k; k0 += kBlock) {
    const int64_t width = k - k0 < kBlock ? k - k0 : kBlock;
    WidenInt8(panel + k0 * kPanelWidth, width * kPanelWidth, block);
    for (int64_t r = 0; r < rows; r += kMaxRows) {
      WithRows<kMaxRows>(rows - r < kMaxRows ? rows - r : kMaxRows, [&](auto count) {
        constexpr int kRows = decltype(count)::value;
        Vec acc[kRows][kVecs];
        for (int i = 0; i < kRows; ++i)
          for (int v = 0; v < kVecs; ++v)
            acc[i][v] = k0 == 0 ? Zero() : Load(sums + (r + i) * kPanelWidth + v * kLanes);
        Micro<kRows, kVecs, 0>(a + r * lda + k0, lda, block, width, Ahead{}, acc);
        if (k0 + width == k) return EmitScaled(acc, scales, n, c + r * ldc, ldc, add);
        for (int i = 0; i < kRows; ++i)
          for (int v = 0; v < kVecs; ++v)
            Store(sums + (r + i) * kPanelWidth + v * kLanes, acc[i][v]);
      });
    }
  }
}

template <typename C>
void GemmPanelInt8(const Bf16* a, int64_t lda, const int8_t* panel, const float* scales, int64_t k,
                   int64_t rows, int64_t n, C* c, int64_t ldc, bool add) {
  if (rows > kMaxRows) {
    for (int64_t r = 0; r < rows; r += kInt8Rows)
      ManyRowsInt8(a + r * lda, lda, panel, scales, k, rows - r < kInt8Rows ? rows - r : kInt8Rows,
                   n, c + r * ldc, ldc, add);
    return;
  }
  WithRows<kMaxRows>(rows, [&](auto count) {
    constexpr int kRows = decltype(count)::value;
    Vec acc[kRows][kVecs];
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVecs; ++v) acc[i][v] = Zero();
    Micro<kRows, kVecs, 0>(a, lda, panel, k, Ahead{}, acc);
    EmitScaled(acc, scales, n, c, ldc, add);
  });
}

}  // namespace
}  // namespace rft::RFT_ISA
