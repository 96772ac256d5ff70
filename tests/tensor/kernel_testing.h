// Reference values for kernel tests: random rows, and a suite that runs over every table this CPU can run or emulate.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "rft/core/rng.h"
#include "rft/tensor/kernels.h"
#include "tests/tensor/tile_emulator.h"

namespace rft::testing {

// `count` values in [-scale, scale), the same for the same seed.
inline std::vector<float> RandomRow(int64_t count, uint64_t seed, double scale = 1.0) {
  std::vector<float> row(static_cast<size_t>(count));
  for (size_t i = 0; i < row.size(); ++i)
    row[i] = static_cast<float>(
        scale * (static_cast<double>(BitsAt(seed, 0x6b, i) >> 11) * 0x1.0p-52 - 1.0));
  return row;
}

// The same values as the kernel's element type, and what they are after rounding to it.
template <typename T>
std::vector<T> As(const std::vector<float>& values) {
  std::vector<T> out;
  for (float v : values) out.push_back(FromFloat<T>(v));
  return out;
}
template <typename T>
std::vector<double> Exact(const std::vector<T>& values) {
  std::vector<double> out;
  for (T v : values) out.push_back(ToFloat(v));
  return out;
}

// Largest error of storing a value as T, relative to the value; plus the float32 arithmetic before it.
template <typename T>
constexpr double kRelative = std::is_same_v<T, float> ? 2e-6 : 0.0045;

// Every value within kRelative<T> of `scale` (or of itself, if that is larger).
template <typename T>
void ExpectClose(const std::vector<T>& actual, const std::vector<double>& expected, double scale,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(ToFloat(actual[i]), expected[i],
                kRelative<T> * std::max(scale, std::abs(expected[i])))
        << what << " [" << i << "]";
}

template <typename T>
bool SameBits(const T* a, const T* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(T)) == 0;
}

inline std::vector<const Kernels*> AllKernels() {
  int count = 0;
  const Kernels* const* tables = RunnableKernels(&count);
  std::vector<const Kernels*> all(tables, tables + count);
  if (const Kernels* amx = AmxKernels(); amx != nullptr && amx != all[0]) all.push_back(amx);
  return all;
}

// TEST_P suites: GetParam() is one table.
class KernelTest : public ::testing::TestWithParam<const Kernels*> {};
inline std::string KernelName(const ::testing::TestParamInfo<const Kernels*>& info) {
  return info.param->name;
}

}  // namespace rft::testing

// Instantiates a suite derived from KernelTest for every table.
#define RFT_FOR_ALL_KERNELS(Suite)                                                            \
  INSTANTIATE_TEST_SUITE_P(Kernels, Suite, ::testing::ValuesIn(::rft::testing::AllKernels()), \
                           ::rft::testing::KernelName)
