// Optimizer state in fewer bits: the codes, what a number becomes, and that reading and writing again changes nothing.
#include "rft/train/moment.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "rft/core/rng.h"

namespace rft {
namespace {

// Numbers over eight orders of magnitude.
std::vector<float> Numbers(int64_t n, bool is_signed) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(BitsAt(1, 2, i) >> 11) * 0x1p-53;
    const double size = std::pow(10.0, -8.0 * u);
    values.push_back(static_cast<float>(is_signed && i % 3 == 0 ? -size : size));
  }
  return values;
}

std::vector<float> Read(const Moment& moment, int64_t n) {
  std::vector<float> out(n);
  moment.Read(0, n, out.data());
  return out;
}

// bitsandbytes.functional.create_dynamic_map(signed=...), bitsandbytes 0.45: some of its 256 values.
TEST(DynamicMapTest, IsThatOfBitsandbytesUpToItsMostNegativeValue) {
  const auto with_sign = DynamicMap(true), without = DynamicMap(false);
  EXPECT_FLOAT_EQ(with_sign[0], -1.0f);
  EXPECT_FLOAT_EQ(with_sign[1], -0.97890625f);
  EXPECT_FLOAT_EQ(with_sign[127], 0.0f);
  EXPECT_FLOAT_EQ(with_sign[128], 5.5e-07f);
  EXPECT_FLOAT_EQ(with_sign[254], 0.99296875f);
  EXPECT_FLOAT_EQ(with_sign[255], 1.0f);
  EXPECT_FLOAT_EQ(without[0], 0.0f);
  EXPECT_FLOAT_EQ(without[1], 3.25e-07f);
  EXPECT_FLOAT_EQ(without[254], 0.99648438f);
  EXPECT_FLOAT_EQ(without[255], 1.0f);
}

class MomentTest : public ::testing::TestWithParam<std::pair<const char*, bool>> {
 protected:
  const std::string format_ = GetParam().first;
  const bool is_signed_ = GetParam().second;
  const int64_t n_ = 1000;  // the last block is not full
};

TEST_P(MomentTest, BeginsAtZero) {
  EXPECT_EQ(Read(Moment(n_, format_, is_signed_), n_), std::vector<float>(n_, 0.0f));
}

TEST_P(MomentTest, KeepsNumbersAsWellAsItsBitsAllow) {
  Moment moment(n_, format_, is_signed_);
  const std::vector<float> values = Numbers(n_, is_signed_);
  moment.Write(0, n_, values.data(), 1);
  const std::vector<float> read = Read(moment, n_);
  for (int64_t i = 0; i < n_; ++i) {
    // bf16 keeps 8 bits. 8-bit codes of the largest numbers lie 1.41 % of the block's largest apart (roots: half that).
    const double tolerance = format_ == "fp32"   ? 0.0
                             : format_ == "bf16" ? std::abs(values[i]) / 128.0
                                                 : 0.012;
    EXPECT_NEAR(read[i], values[i], tolerance) << i;
  }
}

TEST_P(MomentTest, WritingWhatWasReadChangesNothing) {
  Moment moment(n_, format_, is_signed_);
  moment.Write(0, n_, Numbers(n_, is_signed_).data(), 1);
  const std::vector<float> first = Read(moment, n_);
  Moment again(n_, format_, is_signed_);
  again.FromFloat(moment.ToFloat());
  EXPECT_EQ(Read(again, n_), first);
}

INSTANTIATE_TEST_SUITE_P(Formats, MomentTest,
                         ::testing::Values(std::pair("fp32", true), std::pair("bf16", true),
                                           std::pair("bf16", false), std::pair("int8", true),
                                           std::pair("int8", false)));

TEST(MomentTest, Bf16RoundsUpAsOftenAsAddsToTheRightMean) {
  const int64_t n = 1 << 16;
  Moment moment(n, "bf16", true);
  const float value = 1.0f + 1.0f / 512.0f;  // a quarter of the way to the next bf16
  moment.Write(0, n, std::vector<float>(n, value).data(), 7);
  double mean = 0.0;
  for (float x : Read(moment, n)) mean += x / static_cast<double>(n);
  EXPECT_NEAR(mean, value, 5e-5);
}

}  // namespace
}  // namespace rft
