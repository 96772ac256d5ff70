// Normal numbers of mean 0 from random bits (Box & Muller 1958), for initial values.
#pragma once

#include <cmath>
#include <cstdint>

namespace rft {

inline double NormalFrom(uint64_t bits, double deviation = 1.0) {
  const double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1.0p-32;
  const double v = static_cast<double>(bits & 0xffffffffu) * 0x1.0p-32;
  return deviation * std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * M_PI * v);
}

}  // namespace rft
