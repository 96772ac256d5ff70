// Matrix product over packed panels. Included by kernels_impl.h inside one ISA's translation unit.
//
// A micro-kernel computes MR rows x 48 columns with every partial sum in registers: one chain of multiply-adds over k per
// output element, in order. The chain is the same for every MR, so a row's bits don't depend on how many rows came along.
#pragma once

#include "rft/tensor/kernels.h"
#include "rft/tensor/simd.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

inline constexpr int kVecs = kPanelWidth / kLanes;
#if defined(__AVX512F__)
inline constexpr int kMaxRows = 8;  // 24 accumulators of 32 registers
#else
inline constexpr int kMaxRows = 2;  // 12 of 16
#endif

template <int MR>
inline void Micro(const float* a, int64_t lda, const float* b, int64_t k, Vec (&acc)[MR][kVecs]) {
  for (int64_t i = 0; i < k; ++i, b += kPanelWidth) {
    Vec w[kVecs];
    for (int v = 0; v < kVecs; ++v) w[v] = Load(b + v * kLanes);
    for (int r = 0; r < MR; ++r) {
      const Vec x = Set1(a[r * lda + i]);
      for (int v = 0; v < kVecs; ++v) acc[r][v] = Fma(x, w[v], acc[r][v]);
    }
  }
}

#if defined(__AVX512BF16__)
template <int MR>
inline void Micro(const Bf16* a, int64_t lda, const Bf16* b, int64_t k, Vec (&acc)[MR][kVecs]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    __m512bh w[kVecs];
    for (int v = 0; v < kVecs; ++v) w[v] = (__m512bh)_mm512_loadu_si512(b + v * 2 * kLanes);
    for (int r = 0; r < MR; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + r * lda + i, sizeof pair);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
      for (int v = 0; v < kVecs; ++v) acc[r][v].v = _mm512_dpbf16_ps(acc[r][v].v, x, w[v]);
    }
  }
}
#else
// Without the bf16 dot product: even and odd k of the pairs, widened, in order.
inline void LoadPairs(const Bf16* b, Vec& even, Vec& odd) {
#if defined(__AVX512F__)
  const __m512i u = _mm512_loadu_si512(b);
  even.v = _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
  odd.v =
      _mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
#elif defined(__AVX2__)
  const auto* q = reinterpret_cast<const __m256i*>(b);
  const __m256i lo = _mm256_loadu_si256(q), hi = _mm256_loadu_si256(q + 1);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  even = {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
  odd = {_mm256_castsi256_ps(_mm256_and_si256(lo, mask)),
         _mm256_castsi256_ps(_mm256_and_si256(hi, mask))};
#else
  for (int i = 0; i < kLanes; ++i) {
    even.v[i] = ToFloat(b[2 * i]);
    odd.v[i] = ToFloat(b[2 * i + 1]);
  }
#endif
}

template <int MR>
inline void Micro(const Bf16* a, int64_t lda, const Bf16* b, int64_t k, Vec (&acc)[MR][kVecs]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    for (int v = 0; v < kVecs; ++v) {
      Vec even, odd;
      LoadPairs(b + v * 2 * kLanes, even, odd);
      for (int r = 0; r < MR; ++r) {
        acc[r][v] = Fma(Set1(ToFloat(a[r * lda + i])), even, acc[r][v]);
        acc[r][v] = Fma(Set1(ToFloat(a[r * lda + i + 1])), odd, acc[r][v]);
      }
    }
  }
}
#endif

template <typename C>
inline void Emit(C* c, Vec value, int64_t n, bool add) {
  if (n >= kLanes) {
    Store(c, add ? Add(Load(c), value) : value);
  } else if (n > 0) {
    const int m = static_cast<int>(n);
    StorePartial(c, add ? Add(LoadPartial(c, m, 0.0f), value) : value, m);
  }
}

template <int MR, typename T, typename C>
inline void Tile(const T* a, int64_t lda, const T* panel, int64_t k, int64_t n, C* c, int64_t ldc,
                 bool add) {
  Vec acc[MR][kVecs];
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Zero();
  Micro<MR>(a, lda, panel, k, acc);
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < kVecs; ++v) Emit(c + r * ldc + v * kLanes, acc[r][v], n - v * kLanes, add);
}

// Asks for the `part`-th of `parts` of the panel that follows this one in memory, while the rows of this one keep the
// arithmetic busy: a decode batch reads every weight from memory exactly once. Past the last panel it asks for nothing real,
// which is harmless.
inline void PrefetchNextPanel(const char* panel, int64_t bytes, int64_t part, int64_t parts) {
  constexpr int64_t kLine = 64;
  const int64_t begin = bytes * part / parts, end = bytes * (part + 1) / parts;
  for (int64_t i = begin; i < end; i += kLine) __builtin_prefetch(panel + bytes + i, 0, 2);
}

template <typename T, typename C>
void GemmPanel(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows, int64_t n, C* c,
               int64_t ldc, bool add) {
  int64_t r = 0;
  const int64_t tiles = rows / kMaxRows,
                bytes = PanelElements<T>(k) * static_cast<int64_t>(sizeof(T));
  for (; r + kMaxRows <= rows; r += kMaxRows) {
    PrefetchNextPanel(reinterpret_cast<const char*>(panel), bytes, r / kMaxRows, tiles);
    Tile<kMaxRows>(a + r * lda, lda, panel, k, n, c + r * ldc, ldc, add);
  }
  WithRows<kMaxRows - 1>(rows - r, [&](auto left) {
    Tile<decltype(left)::value>(a + r * lda, lda, panel, k, n, c + r * ldc, ldc, add);
  });
}

template <typename T>
void GemmPanelFloat(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows, int64_t n,
                    float* c, int64_t ldc, bool add) {
  GemmPanel(a, lda, panel, k, rows, n, c, ldc, add);
}
template <typename T>
void GemmPanelSame(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows, int64_t n,
                   T* c, int64_t ldc) {
  GemmPanel(a, lda, panel, k, rows, n, c, ldc, false);
}

}  // namespace
}  // namespace rft::RFT_ISA
