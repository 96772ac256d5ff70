// bfloat16 as 16 raw bits, with round-to-nearest-even conversion. Layout-compatible with c10::BFloat16. Torch-free.
#pragma once

#include <cstdint>

namespace rft {

struct Bf16 {
  uint16_t bits;
};

[[gnu::always_inline]] inline float ToFloat(Bf16 x) {
  const uint32_t wide = uint32_t{x.bits} << 16;
  float f;
  __builtin_memcpy(&f, &wide, sizeof f);
  return f;
}
[[gnu::always_inline]] inline float ToFloat(float x) { return x; }

template <typename T>
T FromFloat(float f);

template <>
[[gnu::always_inline]] inline float FromFloat<float>(float f) {
  return f;
}
template <>
[[gnu::always_inline]] inline Bf16 FromFloat<Bf16>(float f) {
  uint32_t u;
  __builtin_memcpy(&u, &f, sizeof u);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    return Bf16{static_cast<uint16_t>((u >> 16) | 0x40)};  // quiet NaN
  return Bf16{static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}

}  // namespace rft
