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

inline Vec LoadInt8(const int8_t* q) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
#elif defined(__AVX2__)
  const auto* half = reinterpret_cast<const __m128i*>(q);
  const auto* rest = reinterpret_cast<const __m128i*>(q + 8);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(half))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(rest)))};
#else
  return Map([=](int i) { return static_cast<float>(q[i]); });
#endif
}

#if defined(__AVX512F__)
// 32 of them as bf16, exactly: the upper halves of the floats.
inline __m512i Widen32(const int8_t* q) {
  alignas(64) static constexpr uint16_t kUpper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                      23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                      45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(_mm512_castps_si512(LoadInt8(q).v), _mm512_load_si512(kUpper),
                                   _mm512_castps_si512(LoadInt8(q + kLanes).v));
}
#endif

// n: a multiple of 32.
inline void WidenInt8(const int8_t* q, int64_t n, Bf16* out) {
#if defined(__AVX512F__)
  for (int64_t i = 0; i < n; i += 2 * kLanes) _mm512_storeu_si512(out + i, Widen32(q + i));
#else
  for (int64_t i = 0; i < n; i += kLanes) Store(out + i, LoadInt8(q + i));
#endif
}

#if defined(__AVX512BF16__)
template <int MR, int V, int Lines>
inline void Micro(const Bf16* a, int64_t lda, const int8_t* b, int64_t k, Ahead ahead,
                  Vec (&acc)[MR][V]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    ahead.Ask<Lines>(i / 2);
    __m512bh w[V];
    for (int v = 0; v < V; ++v) w[v] = (__m512bh)Widen32(b + v * 2 * kLanes);
    for (int r = 0; r < MR; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + r * lda + i, sizeof pair);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
      for (int v = 0; v < V; ++v) acc[r][v].v = _mm512_dpbf16_ps(acc[r][v].v, x, w[v]);
    }
  }
}
#else
template <int MR, int V, int Lines>
inline void Micro(const Bf16* a, int64_t lda, const int8_t* b, int64_t k, Ahead ahead,
                  Vec (&acc)[MR][V]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    ahead.Ask<Lines>(i / 2);
    alignas(64) Bf16 pairs[2 * kPanelWidth];
    WidenInt8(b, 2 * kPanelWidth, pairs);
    for (int v = 0; v < V; ++v) {
      Vec even, odd;
      LoadPairs(pairs + v * 2 * kLanes, even, odd);
      for (int r = 0; r < MR; ++r) {
        acc[r][v] = Fma(Set1(ToFloat(a[r * lda + i])), even, acc[r][v]);
        acc[r][v] = Fma(Set1(ToFloat(a[r * lda + i + 1])), odd, acc[r][v]);
      }
    }
  }
}
#endif

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
