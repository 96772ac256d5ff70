// int8 numbers widened to float and, exactly, to bf16. Included by kernels_impl.h inside one ISA's translation unit.
#pragma once

#include "rft/tensor/simd.h"

namespace rft::RFT_ISA {
namespace {  // unnamed: the linker must never lend these to another ISA's file

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

}  // namespace
}  // namespace rft::RFT_ISA
