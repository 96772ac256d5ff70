// Known answers: Random123's kat_vectors file, lines "philox4x32 10".
#include "rft/core/rng.h"

#include <set>

#include <gtest/gtest.h>

namespace rft {
namespace {

using Words4 = std::array<uint32_t, 4>;

TEST(PhiloxTest, MatchesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformAtTest, StaysInTheUnitIntervalWithTheRightMean) {
  double sum = 0.0;
  for (uint32_t token = 0; token < 10000; ++token) {
    const double u = UniformAt({.run_seed = 7, .step = 1, .row = 2, .rollout = 3}, token);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.0145);  // 5 standard deviations
}

TEST(UniformAtTest, DependsOnEveryPartOfTheKey) {
  const std::set<double> draws = {UniformAt({1, 2, 3, 4}, 5), UniformAt({9, 2, 3, 4}, 5),
                                  UniformAt({1, 9, 3, 4}, 5), UniformAt({1, 2, 9, 4}, 5),
                                  UniformAt({1, 2, 3, 9}, 5), UniformAt({1, 2, 3, 4}, 9)};
  EXPECT_EQ(draws.size(), 6u);
}

TEST(UniformAtTest, GivesTheSameDrawAgain) {
  EXPECT_EQ(UniformAt({1, 2, 3, 4}, 5), UniformAt({1, 2, 3, 4}, 5));
}

TEST(BitsAtTest, DependsOnSeedSaltAndCounter) {
  EXPECT_EQ((std::set<uint64_t>{BitsAt(1, 2, 3), BitsAt(9, 2, 3), BitsAt(1, 9, 3), BitsAt(1, 2, 9)})
                .size(),
            4u);
}

}  // namespace
}  // namespace rft
