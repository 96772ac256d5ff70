// Eight doubles at a time, in the compiler's vector extension: the same source becomes AVX-512, AVX2
// or SSE2 depending on the function it is inlined into.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace rft::vec {

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // everything here is inlined: no calling convention
#endif

constexpr int kWidth = 8;
using Doubles = double __attribute__((vector_size(64)));
using Mask = long long __attribute__((vector_size(64)));  // -1 true, 0 false
#define RFT_VEC_INLINE [[gnu::always_inline]] inline

RFT_VEC_INLINE Doubles Fill(double x) { return Doubles{} + x; }
RFT_VEC_INLINE Doubles Min(Doubles a, Doubles b) { return a < b ? a : b; }
RFT_VEC_INLINE Doubles Max(Doubles a, Doubles b) { return a > b ? a : b; }
// NaN stays NaN.
RFT_VEC_INLINE Doubles Clamp(Doubles x, double low, double high) {
  const Doubles bounded = x > high ? Fill(high) : x;
  return bounded < low ? Fill(low) : bounded;
}
RFT_VEC_INLINE Doubles Abs(Doubles x) { return x < 0 ? -x : x; }
// x where m, 0 elsewhere, whatever x holds.
RFT_VEC_INLINE Doubles Keep(Mask m, Doubles x) { return m ? x : Doubles{}; }

RFT_VEC_INLINE double Sum(Doubles x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}
RFT_VEC_INLINE double Count(Mask m) {
  return -static_cast<double>(m[0] + m[1] + m[2] + m[3] + m[4] + m[5] + m[6] + m[7]);
}

RFT_VEC_INLINE Doubles Load(const double* p) {
  Doubles x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
RFT_VEC_INLINE Doubles Load(const float* p) {
  using Floats = float __attribute__((vector_size(32)));
  Floats x;
  std::memcpy(&x, p, sizeof(x));
  return __builtin_convertvector(x, Doubles);
}
RFT_VEC_INLINE void Store(Doubles x, double* p) { std::memcpy(p, &x, sizeof(x)); }
RFT_VEC_INLINE void Store(Doubles x, float* p) {
  using Floats = float __attribute__((vector_size(32)));
  const Floats y = __builtin_convertvector(x, Floats);
  std::memcpy(p, &y, sizeof(y));
}

// e^x to 2 ulp; 0 below -708, infinity above 709. x = n ln 2 + r, |r| <= ln 2 / 2, Taylor to r^13.
RFT_VEC_INLINE Doubles Exp(Doubles x) {
  constexpr double kShift = 0x1.8p52;  // adding it rounds to an integer in the low mantissa bits
  const Doubles safe = Clamp(x, -708.0, 709.0);
  const Doubles shifted = safe * 0x1.71547652b82fep0 + kShift;
  const Doubles n = shifted - kShift;
  const Doubles r = (safe - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
  Doubles y = Fill(1.0 / 6227020800.0);
  y = y * r + 1.0 / 479001600.0;
  y = y * r + 1.0 / 39916800.0;
  y = y * r + 1.0 / 3628800.0;
  y = y * r + 1.0 / 362880.0;
  y = y * r + 1.0 / 40320.0;
  y = y * r + 1.0 / 5040.0;
  y = y * r + 1.0 / 720.0;
  y = y * r + 1.0 / 120.0;
  y = y * r + 1.0 / 24.0;
  y = y * r + 1.0 / 6.0;
  y = y * r + 0.5;
  y = y * r + 1.0;
  y = y * r + 1.0;
  Mask bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 1023) << 52;
  Doubles power;
  std::memcpy(&power, &bits, sizeof(power));
  y = y * power;
  y = x > 709.0 ? Fill(std::numeric_limits<double>::infinity()) : y;
  y = x < -708.0 ? Doubles{} : y;
  return x == x ? y : x;  // NaN stays NaN
}

}  // namespace rft::vec
