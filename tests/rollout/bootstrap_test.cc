#include "rollout/bootstrap.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(PairedBootstrapTest, HasNoWidthWhereEveryRowRoseByTheSame) {
  const std::vector<double> before = {0.0, 0.5}, after = {0.5, 1.0};
  const auto d = PairedBootstrap(before, after, 0);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->low, 0.5);
  EXPECT_EQ(d->high, 0.5);
}

// The mean of n coin flips has deviation 0.5 / sqrt(n): the interval is about the mean +- 1.96 times that.
TEST(PairedBootstrapTest, HasTheWidthOfTheNormalApproximation) {
  std::vector<double> before(400, 0.0), after;
  for (int i = 0; i < 400; ++i) after.push_back(i % 2);
  const auto d = PairedBootstrap(before, after, 1);
  ASSERT_TRUE(d.ok());
  EXPECT_NEAR(d->low, 0.5 - 1.96 * 0.025, 0.004);
  EXPECT_NEAR(d->high, 0.5 + 1.96 * 0.025, 0.004);
}

TEST(PairedBootstrapTest, IsTheSameForTheSameSeed) {
  const std::vector<double> before = {0.1, 0.4, 0.2}, after = {0.7, 0.3, 0.9};
  EXPECT_EQ(PairedBootstrap(before, after, 5)->low, PairedBootstrap(before, after, 5)->low);
}

TEST(PairedBootstrapTest, LeavesOutRowsThatWereNotJudgedBothTimes) {
  const double nan = std::nan("");
  const auto d = PairedBootstrap({{0.0, nan, 0.2}}, {{1.0, 1.0, nan}}, 0);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->num_rows, 1);
  EXPECT_EQ(d->mean, 1.0);
}

TEST(PairedBootstrapTest, RefusesListsThatDoNotPair) {
  EXPECT_FALSE(PairedBootstrap({{1.0}}, {{1.0, 2.0}}, 0).ok());
  EXPECT_FALSE(PairedBootstrap({{std::nan("")}}, {{1.0}}, 0).ok());
}

}  // namespace
}  // namespace rft
