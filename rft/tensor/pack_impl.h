// Moving numbers into the order that products read: panels and transposes. Included by kernels_impl.h.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#include <xmmintrin.h>
#endif

#include "rft/tensor/kernels.h"
#include "rft/tensor/prefetch.h"
#include "rft/tensor/simd.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

// Two neighbours along k, which a bf16 panel keeps together.
struct Bf16Pair {
  Bf16 first, second;
};

// Side of the square that TransposeSquare turns in registers.
template <typename T>
inline constexpr int64_t kSquare = 16 / sizeof(T);

#if defined(__SSE2__)
inline void TransposeSquare(const Bf16* src, int64_t ld_src, Bf16* dst, int64_t ld_dst) {
  __m128i a[8], b[8];
  for (int i = 0; i < 8; ++i)
    a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i * ld_src));
  for (int i = 0; i < 4; ++i) {  // pairs of rows, then of pairs, then of fours
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < 2; ++i) {
      a[4 * h + 2 * i] = _mm_unpacklo_epi32(b[4 * h + i], b[4 * h + 2 + i]);
      a[4 * h + 2 * i + 1] = _mm_unpackhi_epi32(b[4 * h + i], b[4 * h + 2 + i]);
    }
  for (int i = 0; i < 4; ++i) {
    auto* out = reinterpret_cast<__m128i*>(dst + 2 * i * ld_dst);
    _mm_storeu_si128(out, _mm_unpacklo_epi64(a[i], a[4 + i]));
    out = reinterpret_cast<__m128i*>(dst + (2 * i + 1) * ld_dst);
    _mm_storeu_si128(out, _mm_unpackhi_epi64(a[i], a[4 + i]));
  }
}
inline void TransposeSquare(const float* src, int64_t ld_src, float* dst, int64_t ld_dst) {
  __m128 r0 = _mm_loadu_ps(src), r1 = _mm_loadu_ps(src + ld_src),
         r2 = _mm_loadu_ps(src + 2 * ld_src), r3 = _mm_loadu_ps(src + 3 * ld_src);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(dst, r0);
  _mm_storeu_ps(dst + ld_dst, r1);
  _mm_storeu_ps(dst + 2 * ld_dst, r2);
  _mm_storeu_ps(dst + 3 * ld_dst, r3);
}
inline void TransposeSquare(const Bf16Pair* src, int64_t ld_src, Bf16Pair* dst, int64_t ld_dst) {
  TransposeSquare(reinterpret_cast<const float*>(src), ld_src, reinterpret_cast<float*>(dst),
                  ld_dst);
}
// out = a0 b0 a1 b1 ... of 8 elements each.
inline void Interleave8(const Bf16* a, const Bf16* b, Bf16* out) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi16(x, y));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8), _mm_unpackhi_epi16(x, y));
}
#else
template <typename T>
inline void TransposeSquare(const T* src, int64_t ld_src, T* dst, int64_t ld_dst) {
  for (int64_t c = 0; c < kSquare<T>; ++c)
    for (int64_t r = 0; r < kSquare<T>; ++r) dst[c * ld_dst + r] = src[r * ld_src + c];
}
inline void Interleave8(const Bf16* a, const Bf16* b, Bf16* out) {
  for (int i = 0; i < 8; ++i) {
    out[2 * i] = a[i];
    out[2 * i + 1] = b[i];
  }
}
#endif

#if defined(__AVX512F__)
// Turns sixteen rows of sixteen 32-bit units: unit j of r[i] goes to unit i of r[j].
inline void TransposeUnits(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 4) {  // within 128 bits: pairs, then fours
    const __m512i ab_lo = _mm512_unpacklo_epi32(r[i], r[i + 1]),
                  ab_hi = _mm512_unpackhi_epi32(r[i], r[i + 1]),
                  cd_lo = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]),
                  cd_hi = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
    t[i] = _mm512_unpacklo_epi64(ab_lo, cd_lo);
    t[i + 1] = _mm512_unpackhi_epi64(ab_lo, cd_lo);
    t[i + 2] = _mm512_unpacklo_epi64(ab_hi, cd_hi);
    t[i + 3] = _mm512_unpackhi_epi64(ab_hi, cd_hi);
  }
  for (int j = 0; j < 4; ++j) {  // t[4 g + j] holds columns j, 4 + j, 8 + j, 12 + j of rows 4 g ..
    const __m512i lo_a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x44),
                  hi_a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xee),
                  lo_b = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x44),
                  hi_b = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xee);
    r[j] = _mm512_shuffle_i32x4(lo_a, lo_b, 0x88);
    r[4 + j] = _mm512_shuffle_i32x4(lo_a, lo_b, 0xdd);
    r[8 + j] = _mm512_shuffle_i32x4(hi_a, hi_b, 0x88);
    r[12 + j] = _mm512_shuffle_i32x4(hi_a, hi_b, 0xdd);
  }
}

// Sixteen 32-bit units of neighbouring rows, a row of floats or the pairs of two rows of bf16.
inline __m512i LoadRows(const float* src, int64_t) { return _mm512_loadu_si512(src); }
inline __m256i LoadHalf(const Bf16* src) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
}
inline __m256i LoadHalf(const float* src) { return ToBf16(Load(src)); }
inline __m512i LoadRows(const Bf16* src, int64_t ld) {
  return WeaveBits(LoadHalf(src), LoadHalf(src + ld));
}

// dst[c][r] = src[r][c] of 16 columns and as many rows as fill whole lines of dst.
template <typename T>
inline constexpr int64_t kLineRows = 64 / sizeof(T);
template <typename T>
inline void TransposeLines(const T* src, int64_t ld_src, T* dst, int64_t ld_dst) {
  constexpr int64_t kRows = kLineRows<T> / 16;
  __m512i r[16];
  for (int i = 0; i < 16; ++i) r[i] = LoadRows(src + i * kRows * ld_src, ld_src);
  TransposeUnits(r);
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(dst + i * ld_dst, r[i]);
}
#endif

// dst[c][r] = src[r][c] by squares.
template <typename T>
void TransposeSquares(const T* src, int64_t rows, int64_t cols, int64_t ld_src, T* dst,
                      int64_t ld_dst) {
  constexpr int64_t kTile = 32, kS = kSquare<T>;  // a tile's lines of both sides stay in the cache
  for (int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const int64_t r1 = r0 + kTile < rows ? r0 + kTile : rows,
                    c1 = c0 + kTile < cols ? c0 + kTile : cols;
      const int64_t rs = r0 + (r1 - r0) / kS * kS, cs = c0 + (c1 - c0) / kS * kS;
      for (int64_t c = c0; c < cs; c += kS)
        for (int64_t r = r0; r < rs; r += kS)
          TransposeSquare(src + r * ld_src + c, ld_src, dst + c * ld_dst + r, ld_dst);
      for (int64_t c = c0; c < c1; ++c)  // what is left beside and below the squares
        for (int64_t r = c < cs ? rs : r0; r < r1; ++r) dst[c * ld_dst + r] = src[r * ld_src + c];
    }
}

// dst[c][r] = src[r][c]
template <typename T>
void Transpose(const T* src, int64_t rows, int64_t cols, int64_t ld_src, T* dst, int64_t ld_dst) {
#if defined(__AVX512F__)
  const int64_t lines = rows / kLineRows<T> * kLineRows<T>, whole = cols / 16 * 16;
  for (int64_t r = 0; r < lines; r += kLineRows<T>)
    for (int64_t c = 0; c < whole; c += 16) {
      // Past the last rows this asks for nothing real, which is harmless.
      const T* ahead = src + (r + kLineRows<T>)*ld_src + c;
      for (int64_t i = 0; c % kLineRows<T> == 0 && i < kLineRows<T>; ++i)
        __builtin_prefetch(ahead + i * ld_src, 0, 3);
      TransposeLines(src + r * ld_src + c, ld_src, dst + c * ld_dst + r, ld_dst);
    }
  TransposeSquares(src + whole, lines, cols - whole, ld_src, dst + whole * ld_dst, ld_dst);
  TransposeSquares(src + lines * ld_src, rows - lines, cols, ld_src, dst + lines, ld_dst);
#else
  TransposeSquares(src, rows, cols, ld_src, dst, ld_dst);
#endif
}

template <typename T>
inline void ConvertRow(const float* src, int64_t n, T* dst) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(dst + i, Load(src + i));
  for (; i < n; ++i) dst[i] = FromFloat<T>(src[i]);
}
inline void ConvertRow(const Bf16* src, int64_t n, Bf16* dst) {
  __builtin_memcpy(dst, src, n * sizeof(Bf16));
}

inline constexpr int64_t kRowsAhead = 16;  // of a panel's short rows

// Rows of the source follow the columns of the panel (stride_c == 1). Columns past n are zero already.
template <typename S>
void PackRows(const S* src, int64_t stride_k, int64_t k, int64_t n, float* panel) {
  for (int64_t i = 0; i < k; ++i, src += stride_k, panel += kPanelWidth) {
    PrefetchRow(src + kRowsAhead * stride_k, n);
    if (n == kPanelWidth)
      ConvertRow(src, kPanelWidth, panel);
    else
      ConvertRow(src, n, panel);
  }
}
template <typename S>
void PackRows(const S* src, int64_t stride_k, int64_t k, int64_t n, Bf16* panel) {
#if defined(__AVX512F__)
  if (n % 16 == 0) {
    for (int64_t i = 0; i < k; i += 2, src += 2 * stride_k, panel += 2 * kPanelWidth) {
      PrefetchRow(src + kRowsAhead * stride_k, n);
      PrefetchRow(src + (kRowsAhead + 1) * stride_k, n);
      for (int64_t c = 0; c < n; c += 16) {
        const __m256i odd = i + 1 < k ? LoadHalf(src + stride_k + c) : _mm256_setzero_si256();
        _mm512_storeu_si512(panel + 2 * c, WeaveBits(LoadHalf(src + c), odd));
      }
    }
    return;
  }
#endif
  alignas(64) Bf16 even[kPanelWidth] = {}, odd[kPanelWidth] = {};
  for (int64_t i = 0; i < k; i += 2, panel += 2 * kPanelWidth) {
    ConvertRow(src + i * stride_k, n, even);
    if (i + 1 < k)
      ConvertRow(src + (i + 1) * stride_k, n, odd);
    else
      __builtin_memset(static_cast<void*>(odd), 0, sizeof odd);
    for (int64_t c = 0; c < kPanelWidth; c += 8) Interleave8(even + c, odd + c, panel + 2 * c);
  }
}

#if defined(__AVX512F__)
// Sixteen units of a panel's column: floats, or pairs of bf16.
inline __m512i LoadUnits(const float* src, const float*) { return _mm512_loadu_si512(src); }
inline __m512i LoadUnits(const float* src, const Bf16*) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(ToBf16(Load(src))), ToBf16(Load(src + kLanes)),
                            1);
}
inline __m512i LoadUnits(const Bf16* src, const Bf16*) { return _mm512_loadu_si512(src); }

// Rows of the source are the columns of the panel (stride_k == 1): a weight [N, K]. A weight's copy is written around the
// cache: who reads it next reads all of it.
template <typename S, typename T>
void PackColumns(const S* src, int64_t stride_c, int64_t k, int64_t n, T* panel) {
  constexpr int64_t kPair = sizeof(T) == 2 ? 2 : 1, kStep = 16 * kPair;
  const bool around = sizeof(S) == 4 && reinterpret_cast<uintptr_t>(panel) % 64 == 0;
  const int64_t whole_k = k / kStep * kStep, whole_n = n / 16 * 16;
  for (int64_t i = 0; i < whole_k; i += kStep)
    for (int64_t c = 0; c < whole_n; c += 16) {
      __m512i r[16];
      for (int64_t j = 0; j < 16; ++j)
        r[j] = LoadUnits(src + (c + j) * stride_c + i, static_cast<const T*>(nullptr));
      TransposeUnits(r);
      T* out = panel + i * kPanelWidth + c * kPair;
      for (int64_t j = 0; j < 16; ++j, out += kPanelWidth * kPair)
        if (around)
          _mm512_stream_si512(reinterpret_cast<__m512i*>(out), r[j]);
        else
          _mm512_storeu_si512(out, r[j]);
    }
  for (int64_t c = 0; c < n; ++c)  // what is left beside and below
    for (int64_t i = c < whole_n ? whole_k : 0; i < k; ++i)
      panel[(i / kPair * kPanelWidth + c) * kPair + i % kPair] =
          FromFloat<T>(ToFloat(src[c * stride_c + i]));
  if (around) _mm_sfence();
}
#else
// Rows of the source are the columns of the panel (stride_k == 1): a weight [N, K].
inline void PackColumns(const float* src, int64_t stride_c, int64_t k, int64_t n, float* panel) {
  Transpose(src, n, k, stride_c, panel, kPanelWidth);
}
template <typename S>
void PackColumns(const S* src, int64_t stride_c, int64_t k, int64_t n, Bf16* panel) {
  constexpr int64_t kBlock = 512;  // of k: short pieces of 48 rows are read slowly from memory
  alignas(64) Bf16Pair block[kPanelWidth * kBlock / 2];
  for (int64_t i = 0; i < k; i += kBlock) {
    const int64_t count = i + kBlock < k ? kBlock : k - i;
    for (int64_t c = 0; c < n; ++c) {
      auto* row = reinterpret_cast<Bf16*>(block + c * kBlock / 2);
      ConvertRow(src + c * stride_c + i, count, row);
      if (count % 2 != 0) row[count] = FromFloat<Bf16>(0.0f);
    }
    Transpose(block, n, (count + 1) / 2, kBlock / 2,
              reinterpret_cast<Bf16Pair*>(panel + i * kPanelWidth), kPanelWidth);
  }
}
#endif

// float panel: [k][48]; bf16 panel: [k / 2][48][2].
template <typename S, typename T>
void PackPanel(const S* src, int64_t stride_k, int64_t stride_c, int64_t k, int64_t n, T* panel) {
  constexpr int64_t kPair = sizeof(T) == 2 ? 2 : 1;
  const int64_t padded_k = RoundUp(k, kPair);
  auto at = [&](int64_t i, int64_t c) -> T& {
    return panel[(i / kPair * kPanelWidth + c) * kPair + i % kPair];
  };
  if (n % 16 != 0 || padded_k != k)  // products read whole vectors of columns
    __builtin_memset(static_cast<void*>(panel), 0, padded_k * kPanelWidth * sizeof(T));
  if (stride_c == 1) return PackRows(src, stride_k, k, n, panel);
  if (stride_k == 1) return PackColumns(src, stride_c, k, n, panel);
  for (int64_t i = 0; i < k; ++i)
    for (int64_t c = 0; c < n; ++c)
      at(i, c) = FromFloat<T>(ToFloat(src[i * stride_k + c * stride_c]));
}

}  // namespace
}  // namespace rft::RFT_ISA
