#include "rollout/logprob_diff.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace rft {
namespace {

std::vector<Datum> TwoDatums() {
  Datum a, b;
  a.weights = {0, 1, 1};
  b.weights = {0, 1};
  return {a, b};
}

TEST(LogprobDiffTest, IsExactlyZeroForEqualLogprobs) {
  const std::vector<std::vector<float>> logprobs = {{0, -1.1f, -2}, {0, -0.3f}};
  const LogprobDiff diff = CompareLogprobs(TwoDatums(), logprobs, logprobs);
  EXPECT_EQ(diff.max, 0.0);
  EXPECT_EQ(diff.k3, 0.0);
  EXPECT_EQ(diff.num_tokens, 3);
}

TEST(LogprobDiffTest, TakesMeansOverTheTokensTrainedOn) {
  const LogprobDiff diff =
      CompareLogprobs(TwoDatums(), {{9, -1, -2}, {9, -1}}, {{0, -1, -2.5f}, {0, -0.75f}});
  EXPECT_EQ(diff.max, 0.5);
  EXPECT_EQ(diff.mean, 0.25);
  const double first = std::exp(-0.5) - 0.5, second = std::exp(0.25) - 1.25;  // exp(d) - 1 - d
  EXPECT_NEAR(diff.k3, (first + second) / 3, 1e-15);
  EXPECT_NEAR(diff.kl_max, std::max(first / 2, second), 1e-15);
}

TEST(LogprobDiffTest, ShowsAValueThatIsNotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const LogprobDiff diff =
      CompareLogprobs(TwoDatums(), {{0, -1, -2}, {0, nan}}, {{0, -1, -2}, {0, -1}});
  EXPECT_TRUE(std::isinf(diff.max));
}

}  // namespace
}  // namespace rft
