// Scalar arithmetic that a compiler turns into vector instructions: no calls, no branches, no tables.
// Written once; becomes AVX-512, AVX2 or SSE2 depending on the function it is inlined into.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace rft::vec {

#define RFT_VEC_INLINE [[gnu::always_inline]] inline

template <typename T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  using Int = int32_t;
  static constexpr float kRounder = 0x1.8p23f;  // adding it rounds to an integer, in the low bits
  static constexpr int kMantissa = 23, kBias = 127, kTerms = 7;
  static constexpr float kLowest = -88.0f, kHighest = 89.0f;                  // e^x: 0, infinity
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n high is exact
};
template <>
struct ExpConstants<double> {
  using Int = int64_t;
  static constexpr double kRounder = 0x1.8p52;
  static constexpr int kMantissa = 52, kBias = 1023, kTerms = 13;
  static constexpr double kLowest = -709.0, kHighest = 710.0;
  static constexpr double kLn2High = 0x1.62e42fefa3800p-1, kLn2Low = 0x1.ef35793c76730p-45;
};

// 1 / n!, n from 0 to 13.
constexpr double kInverseFactorial[] = {1.0,
                                        1.0,
                                        1.0 / 2,
                                        1.0 / 6,
                                        1.0 / 24,
                                        1.0 / 120,
                                        1.0 / 720,
                                        1.0 / 5040,
                                        1.0 / 40320,
                                        1.0 / 362880,
                                        1.0 / 3628800,
                                        1.0 / 39916800,
                                        1.0 / 479001600,
                                        1.0 / 6227020800};

// NaN stays NaN.
template <typename T>
RFT_VEC_INLINE T Clamp(T x, T low, T high) {
  const T bounded = x > high ? high : x;
  return bounded < low ? low : bounded;
}

// What rounding took from difference = a - b: difference + rest is exact.
template <typename T>
RFT_VEC_INLINE T RestOf(T difference, T a, T b) {
  const T part = difference - a;
  const T rest = (a - (difference - part)) - (b + part);
  return rest == rest ? rest : T{0};
}

// e^(x + rest) and k3 = e^(x + rest) - 1 - (x + rest), both to a few ulp (k3 without cancellation).
// REQUIRES: x in [kLowest, kHighest] or NaN, |rest| <= ulp(x). What would be subnormal is 0; infinity
// from half a power of two below T's range on.
template <typename T>
RFT_VEC_INLINE T Exp(T x, T rest, T& k3) {
  using C = ExpConstants<T>;
  // x = n ln 2 + r, |r| <= ln 2 / 2;  e^r = 1 + r + r^2 q(r), Taylor.
  const T shifted = x * static_cast<T>(0x1.71547652b82fep0) + C::kRounder;
  const T n = shifted - C::kRounder;
  const T r = ((x - n * C::kLn2High) - n * C::kLn2Low) + rest;
  T q = static_cast<T>(kInverseFactorial[C::kTerms]);
#pragma GCC unroll 16
  for (int i = C::kTerms - 1; i >= 2; --i) q = q * r + static_cast<T>(kInverseFactorial[i]);
  const T k3_of_r = r * r * q;
  const typename C::Int bits = std::bit_cast<typename C::Int>(shifted) + C::kBias;
  const T exp = (T{1} + (r + k3_of_r)) * std::bit_cast<T>(bits << C::kMantissa);
  k3 = n == T{0} ? k3_of_r : exp - T{1} - x;
  return exp;
}

// Likewise for any x.
template <typename T>
RFT_VEC_INLINE T ExpOfAny(T x, T rest, T& k3) {
  using C = ExpConstants<T>;
  const T safe = Clamp(x, C::kLowest, C::kHighest);
  const T exp = Exp(safe, safe == x ? rest : T{0}, k3);
  k3 += safe - x;
  return exp;
}

}  // namespace rft::vec
