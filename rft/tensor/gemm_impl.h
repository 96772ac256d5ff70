// Matrix product over packed panels. Included by kernels_impl.h inside one ISA's translation unit.
//
// A micro-kernel computes MR rows x 48 columns (fewer vectors in a matrix's last panel) with every partial sum in registers:
// one chain of multiply-adds over k per output element, in order. The chain is the same for every shape of tile, so a row's
// bits don't depend on how many rows came along.
#pragma once

#include "rft/tensor/int8_impl.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/read_ahead.h"
#include "rft/tensor/simd.h"
#include "rft/tensor/sum_step_impl.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

static_assert(kPanelWidth == 3 * kLanes);
#if defined(__AVX512F__)
inline constexpr int kMaxRows = 8;  // 24 accumulators of 32 registers
#else
inline constexpr int kMaxRows = 2;  // 12 of 16
#endif
// Rows of a tile of V vectors of columns: with one vector, 8 multiply-adds under way are too few (measured: 17 % slower than 12).
template <int V>
inline constexpr int kTileRowsOf = V == 1 && kMaxRows == 8 ? 12 : kMaxRows;

// What a tile asks memory for while its rows keep the arithmetic busy: a share of the panel that follows in memory, which a decode
// batch reads exactly once (past the last panel it asks for nothing real, which is harmless), or of what comes after the product.
struct Ahead {
  const char* begin = nullptr;
  int64_t step = 0;  // bytes per step over k; at most `Lines` cache lines
  template <int Lines>
  void Ask(int64_t i) const {
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(begin + i * step + line * 64, 0, 2);
  }
};

template <int MR, int V, int Lines>
inline void Micro(const float* a, int64_t lda, const float* b, int64_t k, Ahead ahead,
                  Vec (&acc)[MR][V]) {
  for (int64_t i = 0; i < k; ++i, b += kPanelWidth) {
    ahead.Ask<Lines>(i);
    Vec w[V];
    for (int v = 0; v < V; ++v) w[v] = Load(b + v * kLanes);
    for (int r = 0; r < MR; ++r) {
      const Vec x = Set1(a[r * lda + i]);
      for (int v = 0; v < V; ++v) acc[r][v] = Fma(x, w[v], acc[r][v]);
    }
  }
}

// Bf16 rows by panels of bf16, or of int8 (gemm_int8_impl.h), which is widened on its way.
#if defined(__AVX512BF16__)
inline Pairs LoadStep(const int8_t* b) { return {(__m512bh)Widen32(b)}; }

template <int MR, int V, int Lines, typename B>
inline void Micro(const Bf16* a, int64_t lda, const B* b, int64_t k, Ahead ahead,
                  Vec (&acc)[MR][V]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    ahead.Ask<Lines>(i / 2);
    Pairs w[V];
    for (int v = 0; v < V; ++v) w[v] = LoadStep(b + v * 2 * kLanes);
    for (int r = 0; r < MR; ++r) {
      const Pairs x = SetStep(a + r * lda + i);
      for (int v = 0; v < V; ++v) acc[r][v] = AddStep(x, w[v], acc[r][v]);
    }
  }
}
#else
inline Pairs LoadStep(const int8_t* b) {
  alignas(64) Bf16 pairs[2 * kLanes];
  WidenInt8(b, 2 * kLanes, pairs);
  return LoadStep(pairs);
}

// A widened pair takes twice the registers: one vector of the panel at a time.
template <int MR, int V, int Lines, typename B>
inline void Micro(const Bf16* a, int64_t lda, const B* b, int64_t k, Ahead ahead,
                  Vec (&acc)[MR][V]) {
  for (int64_t i = 0; i < k; i += 2, b += 2 * kPanelWidth) {
    ahead.Ask<Lines>(i / 2);
    for (int v = 0; v < V; ++v) {
      const Pairs w = LoadStep(b + v * 2 * kLanes);
      for (int r = 0; r < MR; ++r) acc[r][v] = AddStep(SetStep(a + r * lda + i), w, acc[r][v]);
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

template <int MR, int V, int Lines, typename T, typename C>
inline void Tile(const T* a, int64_t lda, const T* panel, int64_t k, int64_t n, C* c, int64_t ldc,
                 bool add, Ahead ahead) {
  for (int r = 0; r < MR; ++r)  // what is written comes into the cache while the products are made
    for (int v = 0; v < V; ++v) __builtin_prefetch(c + r * ldc + v * kLanes, 1, 3);
  Vec acc[MR][V];
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = Zero();
  Micro<MR, V, Lines>(a, lda, panel, k, ahead, acc);
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < V; ++v) Emit(c + r * ldc + v * kLanes, acc[r][v], n - v * kLanes, add);
}

// Memory for later (read_ahead.h), at half the rate of a panel's: more requests under way would hold up the loads of this one
// (measured: one line per step costs the product what attention gains).
inline constexpr int64_t kLaterStepBytes = 32;
inline constexpr int64_t kPanelTiles = 3;  // of many that ask for the next panel: a line per step

// The tiles of full height; together they ask for the next panel, `Lines` cache lines at most in a step.
template <int V, int Lines, typename T, typename C>
inline void FullTiles(const T* a, int64_t lda, const T* panel, int64_t k, int64_t tiles, int64_t n,
                      C* c, int64_t ldc, bool add) {
  constexpr int64_t kStepBytes = kPanelWidth * 4;  // one k of float, two of bf16
  const int64_t asking = tiles >= 2 * kPanelTiles ? kPanelTiles : tiles;
  const int64_t step = (kStepBytes + asking - 1) / asking;
  const int64_t bytes = PanelElements<T>(k) * static_cast<int64_t>(sizeof(T));
  const char* next = reinterpret_cast<const char*>(panel) + bytes;
  constexpr int kRows = kTileRowsOf<V>;
  for (int64_t t = 0; t < tiles; ++t) {
    Ahead ahead{next + bytes / asking * t, step};
    if (t >= asking) {
      const int64_t steps = bytes / kStepBytes;
      const MemoryRange later = TakeReadAhead(steps * kLaterStepBytes);
      ahead = {static_cast<const char*>(later.begin), (later.bytes + steps - 1) / steps};
    }
    Tile<kRows, V, Lines>(a + t * kRows * lda, lda, panel, k, n, c + t * kRows * ldc, ldc, add,
                          ahead);
  }
}

template <int V, typename T, typename C>
inline void PanelOfVectors(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows,
                           int64_t n, C* c, int64_t ldc, bool add) {
  constexpr int kRows = kTileRowsOf<V>;
  const int64_t tiles = rows / kRows, r = tiles * kRows;
  if (tiles >= 3)
    FullTiles<V, 1>(a, lda, panel, k, tiles, n, c, ldc, add);
  else if (tiles > 0)
    FullTiles<V, 3>(a, lda, panel, k, tiles, n, c, ldc, add);
  WithRows<kRows - 1>(rows - r, [&](auto left) {
    Tile<decltype(left)::value, V, 0>(a + r * lda, lda, panel, k, n, c + r * ldc, ldc, add,
                                      Ahead{});
  });
}

template <typename T, typename C>
void GemmPanel(const T* a, int64_t lda, const T* panel, int64_t k, int64_t rows, int64_t n, C* c,
               int64_t ldc, bool add) {
  const auto with_vectors = n > 2 * kLanes ? PanelOfVectors<3, T, C>
                            : n > kLanes   ? PanelOfVectors<2, T, C>
                                           : PanelOfVectors<1, T, C>;
  with_vectors(a, lda, panel, k, rows, n, c, ldc, add);
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
