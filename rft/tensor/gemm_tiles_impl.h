// Matrix product over packed panels in matrix tiles (Intel AMX): one instruction adds the products of 16 x 32 by 32 x 16 values.
// A bf16 panel keeps pairs of k together, which is how such an instruction reads its right side, so panels stay as they are.
//
// Every element of the product is one chain of the same instructions over k, whatever rows and columns come along, so a row's bits
// don't depend on its batch. Included by kernels_amx.cc.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 1, ch. 18 (tiles), vol. 2, TDPBF16PS.
#pragma once

#include "rft/tensor/gemm_impl.h"
#include "rft/tensor/kernels.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

inline constexpr int kTileRows = 16;
inline constexpr int kTilePairs = 16;          // of k, in one instruction
inline constexpr int kTileK = 2 * kTilePairs;  // bf16 values: 64 bytes, a tile's row
inline constexpr int kTileBytes = kTileK * 2;
inline constexpr int kPanelStride = kPanelWidth * 2 * 2;  // bytes from one pair of k to the next

// The shapes of the eight registers, as LDTILECFG reads them: sums in 0..3 (row block * 2 + column block), the left side's row
// blocks in 4 and 5, the right side's column blocks in 6 and 7.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  // Row blocks of `first` and `second` rows (0: none).
  TileShapes(int first, int second) {
    const int count[8] = {first, first, second, second, first, second, kTilePairs, kTilePairs};
    for (int t = 0; t < 8; ++t) {
      row_bytes[t] = count[t] > 0 ? kTileBytes : 0;
      rows[t] = static_cast<uint8_t>(count[t]);
    }
  }
};
static_assert(sizeof(TileShapes) == 64);

// The instructions, by a register's number. Not the compiler's intrinsics: GCC 12's don't say that they read and write memory.
inline void ConfigureTiles(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
inline void ReleaseTiles() { asm volatile("tilerelease"); }
template <int T>
inline void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
inline void LoadTile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void StoreTile(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
template <int C, int A, int B>
inline void MultiplyAddTiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

// What k leaves over after whole tiles, filled up with zeros, which add nothing.
struct TileRest {
  alignas(64) Bf16 a[2 * kTileRows * kTileK];
  alignas(64) Bf16 panel[kTilePairs * 2 * kPanelWidth];

  void TakePanel(const Bf16* from, int64_t rest) {
    __builtin_memset(static_cast<void*>(panel), 0, sizeof panel);
    __builtin_memcpy(panel, from, rest * kPanelWidth * sizeof(Bf16));
  }
  void TakeRows(const Bf16* from, int64_t lda, int64_t rest, int64_t rows) {
    __builtin_memset(static_cast<void*>(a), 0, sizeof a);
    for (int64_t r = 0; r < rows; ++r)
      __builtin_memcpy(a + r * kTileK, from + r * lda, rest * sizeof(Bf16));
  }
};

// Adds one step over k: R row blocks by V column blocks.
template <int R, int V>
inline void TileStep(const Bf16* a, int64_t lda, const Bf16* panel) {
  LoadTile<4>(a, lda * 2);
  if constexpr (R == 2) LoadTile<5>(a + kTileRows * lda, lda * 2);
  LoadTile<6>(panel, kPanelStride);
  MultiplyAddTiles<0, 4, 6>();
  if constexpr (R == 2) MultiplyAddTiles<2, 5, 6>();
  if constexpr (V == 2) {
    LoadTile<7>(panel + kTileK, kPanelStride);
    MultiplyAddTiles<1, 4, 7>();
    if constexpr (R == 2) MultiplyAddTiles<3, 5, 7>();
  }
}

// Rows [0, rows) by column blocks [first, first + V) of the panel. `ahead` is what this asks memory for meanwhile.
template <int R, int V, typename C>
void TileBlock(const Bf16* a, int64_t lda, const Bf16* panel, int64_t k, int64_t rows,
               const TileRest& rest, int first, int64_t n, C* c, int64_t ldc, bool add,
               const char* ahead) {
  constexpr int kStepBytes = kTilePairs * kPanelStride;
  ZeroTile<0>();
  if constexpr (V == 2) ZeroTile<1>();
  if constexpr (R == 2) ZeroTile<2>();
  if constexpr (R == 2 && V == 2) ZeroTile<3>();
  const Bf16* b = panel + first * kTileK;
  int64_t i = 0;
  for (; i + kTileK <= k; i += kTileK, b += kTilePairs * 2 * kPanelWidth) {
    if (ahead != nullptr)
      for (int line = 0; line < kStepBytes; line += 64)
        __builtin_prefetch(ahead + i / kTileK * kStepBytes + line, 0, 2);
    TileStep<R, V>(a + i, lda, b);
  }
  if (i < k) TileStep<R, V>(rest.a, kTileK, rest.panel + first * kTileK);
  alignas(64) float sums[R * kTileRows][V * kLanes];
  constexpr int64_t kStride = sizeof sums[0];
  StoreTile<0>(sums[0], kStride);
  if constexpr (V == 2) StoreTile<1>(sums[0] + kLanes, kStride);
  if constexpr (R == 2) StoreTile<2>(sums[kTileRows], kStride);
  if constexpr (R == 2 && V == 2) StoreTile<3>(sums[kTileRows] + kLanes, kStride);
  for (int64_t r = 0; r < rows; ++r)
    for (int v = 0; v < V; ++v)
      Emit(c + r * ldc + (first + v) * kLanes, Load(sums[r] + v * kLanes), n - (first + v) * kLanes,
           add);
}

// R row blocks by all columns.
template <int R, typename C>
void TileRowBlocks(const Bf16* a, int64_t lda, const Bf16* panel, int64_t k, int64_t rows,
                   TileRest& rest, int64_t n, C* c, int64_t ldc, bool add, const char* ahead) {
  if (const int64_t left = k % kTileK; left > 0) rest.TakeRows(a + k - left, lda, left, rows);
  if (n <= kLanes) {
    TileBlock<R, 1>(a, lda, panel, k, rows, rest, 0, n, c, ldc, add, ahead);
    return;
  }
  TileBlock<R, 2>(a, lda, panel, k, rows, rest, 0, n, c, ldc, add, ahead);
  if (n > 2 * kLanes) TileBlock<R, 1>(a, lda, panel, k, rows, rest, 2, n, c, ldc, add, nullptr);
}

// TypedKernels<Bf16>::gemm_panel_float and gemm_panel.
template <typename C>
void GemmPanelTiles(const Bf16* a, int64_t lda, const Bf16* panel, int64_t k, int64_t rows,
                    int64_t n, C* c, int64_t ldc, bool add) {
  constexpr int64_t kBlock = 2 * kTileRows;
  TileRest rest;
  if (const int64_t left = k % kTileK; left > 0)
    rest.TakePanel(panel + (k - left) * kPanelWidth, left);
  // The panel that follows in memory, which a decode batch reads next (past the last one: nothing real, which is harmless).
  const char* ahead = reinterpret_cast<const char*>(panel + PanelElements<Bf16>(k));
  int64_t r = 0;
  if (rows >= kBlock) {
    ConfigureTiles(TileShapes(kTileRows, kTileRows));
    for (; r + kBlock <= rows; r += kBlock, ahead = nullptr)
      TileRowBlocks<2>(a + r * lda, lda, panel, k, kBlock, rest, n, c + r * ldc, ldc, add, ahead);
  }
  if (const int left = static_cast<int>(rows - r); left > kTileRows) {
    ConfigureTiles(TileShapes(kTileRows, left - kTileRows));
    TileRowBlocks<2>(a + r * lda, lda, panel, k, left, rest, n, c + r * ldc, ldc, add, ahead);
  } else if (left > 0) {
    ConfigureTiles(TileShapes(left, 0));
    TileRowBlocks<1>(a + r * lda, lda, panel, k, left, rest, n, c + r * ldc, ldc, add, ahead);
  }
  ReleaseTiles();
}

}  // namespace
}  // namespace rft::RFT_ISA
