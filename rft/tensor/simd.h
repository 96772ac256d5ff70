// Sixteen float lanes on whatever this translation unit is compiled for: one zmm, two ymm, or a plain array.
//
// Included only by kernels_<isa>.cc (through kernels_impl.h); everything lives in the namespace RFT_ISA so that the copies
// of the different ISAs never mix. Multiply-add is always the explicit Fma (the files are compiled with
// -ffp-contract=off): whether two roundings or one happen must not depend on how the compiler unrolled a loop.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "rft/tensor/bf16.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

inline constexpr int kLanes = 16;

#if defined(__AVX512F__)

struct Vec {
  __m512 v;
};
inline Vec Zero() { return {_mm512_setzero_ps()}; }
inline Vec Set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec Load(const Bf16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
inline void Store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
// Rounded to the nearest even; the CPU's own conversion makes 0 of what is below float's normal range.
inline __m256i ToBf16(Vec a) {
#if defined(__AVX512BF16__)
  return (__m256i)_mm512_cvtneps_pbh(a.v);
#else
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
  return _mm512_cvtepi32_epi16(out);
#endif
}
inline void Store(Bf16* p, Vec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), ToBf16(a)); }
// Pairs of 16-bit values: even[0] odd[0] even[1] odd[1] ...
inline __m512i WeaveBits(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}
inline Vec Add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec Sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec Div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec Sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// x * 2^n for integral-valued n.
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }
inline Vec RoundToInt(Vec x) {
  return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// Lanes [0, n) of `a`, the rest from `b`. 0 <= n <= 16.
inline Vec Blend(Vec a, Vec b, int n) {
  return {_mm512_mask_mov_ps(b.v, static_cast<__mmask16>((1u << n) - 1), a.v)};
}

#elif defined(__AVX2__)

struct Vec {
  __m256 lo, hi;
};
inline Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec Set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m256 Widen(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
inline Vec Load(const Bf16* p) {
  const auto* q = reinterpret_cast<const __m128i*>(p);
  return {Widen(_mm_loadu_si128(q)), Widen(_mm_loadu_si128(q + 1))};
}
inline void Store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void Store(Bf16* p, Vec a) {
  float tmp[16];
  Store(tmp, a);
  for (int i = 0; i < 16; ++i) p[i] = FromFloat<Bf16>(tmp[i]);
}
inline Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Vec Sqrt(Vec a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Vec Fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline __m256 PowerOfTwo(__m256 n) {  // 2^n for -126 <= n <= 127
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) {
  // In two halves, so that results down to the denormals stay representable.
  const Vec half = {_mm256_floor_ps(_mm256_mul_ps(n.lo, _mm256_set1_ps(0.5f))),
                    _mm256_floor_ps(_mm256_mul_ps(n.hi, _mm256_set1_ps(0.5f)))};
  const Vec rest = Sub(n, half);
  return Mul(Mul(x, {PowerOfTwo(half.lo), PowerOfTwo(half.hi)}),
             {PowerOfTwo(rest.lo), PowerOfTwo(rest.hi)});
}
inline Vec RoundToInt(Vec x) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.lo, kMode), _mm256_round_ps(x.hi, kMode)};
}
inline Vec Blend(Vec a, Vec b, int n) {
  float x[16], y[16];
  Store(x, a);
  Store(y, b);
  for (int i = n; i < 16; ++i) x[i] = y[i];
  return Load(x);
}

#else

struct Vec {
  float v[16];
};
template <typename F>
inline Vec Map(F f) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline Vec Zero() {
  return Map([](int) { return 0.0f; });
}
inline Vec Set1(float x) {
  return Map([=](int) { return x; });
}
inline Vec Load(const float* p) {
  return Map([=](int i) { return p[i]; });
}
inline Vec Load(const Bf16* p) {
  return Map([=](int i) { return ToFloat(p[i]); });
}
inline void Store(float* p, Vec a) { __builtin_memcpy(p, a.v, sizeof a.v); }
inline void Store(Bf16* p, Vec a) {
  for (int i = 0; i < 16; ++i) p[i] = FromFloat<Bf16>(a.v[i]);
}
inline Vec Add(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec Sub(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec Mul(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec Div(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec Sqrt(Vec a) {
  return Map([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
inline Vec Max(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec Min(Vec a, Vec b) {
  return Map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec Fma(Vec a, Vec b, Vec c) {
  return Map([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) {
  return Map([&](int i) { return __builtin_ldexpf(x.v[i], static_cast<int>(n.v[i])); });
}
inline Vec RoundToInt(Vec x) {
  return Map([&](int i) { return __builtin_nearbyintf(x.v[i]); });
}
inline Vec Blend(Vec a, Vec b, int n) {
  return Map([&](int i) { return i < n ? a.v[i] : b.v[i]; });
}

#endif

// The value after a store as T and a load.
template <typename T>
inline Vec Rounded(Vec a) {
  if constexpr (sizeof(T) == sizeof(float)) return a;
#if defined(__AVX512F__)
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(ToBf16(a)), 16))};
#else
  alignas(64) T t[kLanes];
  Store(t, a);
  return Load(t);
#endif
}

// Fixed-order horizontal reductions.
inline float Sum(Vec a) {
#if defined(__AVX512F__)
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
#else
  alignas(64) float t[16];
  Store(t, a);
  for (int w = 8; w >= 1; w /= 2)
    for (int i = 0; i < w; ++i) t[i] += t[i + w];
  return t[0];
#endif
}
inline float MaxOf(Vec a) {
  alignas(64) float t[16];
  Store(t, a);
  float m = t[0];
  for (int i = 1; i < 16; ++i) m = t[i] > m ? t[i] : m;
  return m;
}

// e^x to 2 ulp on [-87, 88]; 0 below -104 and for -inf. Cephes' polynomial after range reduction by ln 2.
inline Vec Exp(Vec x) {
  x = Min(Max(x, Set1(-104.0f)), Set1(88.7f));
  const Vec n = RoundToInt(Mul(x, Set1(1.44269504088896341f)));
  Vec r = Fma(n, Set1(-0.693359375f), x);
  r = Fma(n, Set1(2.12194440e-4f), r);
  Vec p = Set1(1.9875691500e-4f);
  p = Fma(p, r, Set1(1.3981999507e-3f));
  p = Fma(p, r, Set1(8.3334519073e-3f));
  p = Fma(p, r, Set1(4.1665795894e-2f));
  p = Fma(p, r, Set1(1.6666665459e-1f));
  p = Fma(p, r, Set1(5.0000001201e-1f));
  p = Add(Fma(p, Mul(r, r), r), Set1(1.0f));
  return ScaleByPowerOfTwo(p, n);
}

// A partial vector at the end of a row: loads n < 16 lanes, the rest is `fill`.
template <typename T>
inline Vec LoadPartial(const T* p, int n, float fill) {
  alignas(64) float t[16];
  for (int i = 0; i < 16; ++i) t[i] = i < n ? ToFloat(p[i]) : fill;
  return Load(t);
}
template <typename T>
inline void StorePartial(T* p, Vec a, int n) {
  alignas(64) float t[16];
  Store(t, a);
  for (int i = 0; i < n; ++i) p[i] = FromFloat<T>(t[i]);
}

// Calls body(R) with R as a compile-time number, for 1 <= rows <= Max; nothing for other counts.
template <int R>
struct Rows {
  static constexpr int value = R;
};
template <int Max, typename Body>
inline void WithRows(int64_t rows, const Body& body) {
  if constexpr (Max > 0) {
    if (rows == Max)
      body(Rows<Max>{});
    else
      WithRows<Max - 1>(rows, body);
  }
}

}  // namespace
}  // namespace rft::RFT_ISA
