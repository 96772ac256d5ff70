// One step of a sum over neighbouring terms: a multiply-add of 16 lanes, which takes one term (float) or two (bf16, the CPU's
// dot product of pairs where it has one, else the even and then the odd term). Included by the kernels of one ISA.
#pragma once

#include "rft/tensor/kernels.h"
#include "rft/tensor/simd.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

#if defined(__AVX512BF16__)
struct Pairs {
  __m512bh v;
};
inline Vec AddStep(Pairs x, Pairs w, Vec acc) { return {_mm512_dpbf16_ps(acc.v, x.v, w.v)}; }
inline Pairs LoadStep(const Bf16* p) { return {(__m512bh)_mm512_loadu_si512(p)}; }
inline Pairs SetStep(const Bf16* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  return {(__m512bh)_mm512_set1_epi32(pair)};
}
inline Pairs Weave(const Bf16* even, const Bf16* odd) {
  return {(__m512bh)WeaveBits(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even)),
                              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd)))};
}
inline void StoreWoven(Bf16* out, Vec even, Vec odd) {
  _mm512_storeu_si512(out, WeaveBits(ToBf16(even), ToBf16(odd)));
}
#else
struct Pairs {
  Vec even, odd;
};
inline Vec AddStep(Pairs x, Pairs w, Vec acc) {
  return Fma(x.odd, w.odd, Fma(x.even, w.even, acc));
}
inline Pairs LoadStep(const Bf16* p) {
#if defined(__AVX512F__)
  const __m512i u = _mm512_loadu_si512(p);
  return {
      {_mm512_castsi512_ps(_mm512_slli_epi32(u, 16))},
      {_mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))}};
#elif defined(__AVX2__)
  const auto* q = reinterpret_cast<const __m256i*>(p);
  const __m256i lo = _mm256_loadu_si256(q), hi = _mm256_loadu_si256(q + 1);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
           _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))},
          {_mm256_castsi256_ps(_mm256_and_si256(lo, mask)),
           _mm256_castsi256_ps(_mm256_and_si256(hi, mask))}};
#else
  return {Map([=](int i) { return ToFloat(p[2 * i]); }),
          Map([=](int i) { return ToFloat(p[2 * i + 1]); })};
#endif
}
inline Pairs SetStep(const Bf16* x) { return {Set1(ToFloat(x[0])), Set1(ToFloat(x[1]))}; }
inline Pairs Weave(const Bf16* even, const Bf16* odd) { return {Load(even), Load(odd)}; }
inline void StoreWoven(Bf16* out, Vec even, Vec odd) {
  Bf16 e[kLanes], o[kLanes];
  Store(e, even);
  Store(o, odd);
  for (int i = 0; i < kLanes; ++i) {
    out[2 * i] = e[i];
    out[2 * i + 1] = o[i];
  }
}
#endif

// 16 lanes of one step; of row-major values: of one row, or of two neighbouring rows that were stored in pairs.
inline Vec LoadStep(const float* p) { return Load(p); }
// The same term, or pair of terms, in all lanes.
inline Vec SetStep(const float* x) { return Set1(*x); }
inline Vec AddStep(Vec x, Vec w, Vec acc) { return Fma(x, w, acc); }
// 16 lanes of one step whose terms lie in different rows; float has one term.
inline Vec Weave(const float* x, const float*) { return Load(x); }
inline void StoreWoven(float* out, Vec x, Vec) { Store(out, x); }

template <typename T>
using StepLanes = decltype(LoadStep(static_cast<const T*>(nullptr)));

}  // namespace
}  // namespace rft::RFT_ISA
